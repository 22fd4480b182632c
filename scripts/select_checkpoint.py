"""Ranks the checkpoints of one or several training runs, to select one for generation.

    python scripts/select_checkpoint.py --run_dir RUN --output_dir SELECTION --probe validation

SynthSet (section 4, "Weight Selection") compares the lowest validation loss, the last weights and the lowest color
divergence; the decisive measure is a segmenter trained on generated pairs. `--probe` trains one for each checkpoint and
tests it on the validation pairs of RUN, never on a test set unless `--probe_split` names it, because a test set used
for selection is biased. SELECTION gets `selection.md`, best weights first, `selection.json` and `figure8.png`; existing
results are not measured again. Losses are comparable only between runs of the same `--prediction_type`.
"""

import hashlib
import json
import logging
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from operator import itemgetter
from pathlib import Path

import matplotlib
from accelerate import Accelerator
from datasets import Dataset
from diffusers import DDPMScheduler
from matplotlib import pyplot
from matplotlib.figure import Figure
from torchvision.transforms.v2.functional import to_pil_image

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.arguments import SelectionArguments, TrainingArguments
from synthset.cli import call, run
from synthset.data import SplitNotFoundError, load_pairs, pair_features, write_pairs_shard
from synthset.errors import InputError
from synthset.output_dir import atomic_path, claim_output_dir
from synthset.pipelines.loading import find_network, noise_schedule, read_flags
from synthset.training.components import build_streams, load_training_pairs
from synthset.training.validation import inspect_pairs, validation_loss

SCRIPTS = Path(__file__).parent
logger = logging.getLogger("synthset")
BEST: dict[str, Callable] = {"validation_loss": min, "divergence": min, "dice": max}


@dataclass
class Candidate:
    """Weights to rank.

    Attributes:
        names: names of the folders that hold them, as the user gave them.
        folder: the first of these folders.
        unet: folder of the network.
        scheduler: noise scheduler of its training.
    """

    names: list[str]
    folder: Path
    unet: Path
    scheduler: DDPMScheduler

    @property
    def name(self) -> str:
        return " = ".join(self.names)


def read_arguments(run_dir: Path) -> TrainingArguments:
    """Reads the flags of the training run in `run_dir`."""
    saved = read_flags(run_dir)
    return TrainingArguments(**{f.name: saved[f.name] for f in fields(TrainingArguments) if f.name in saved})


def find_candidates(args: SelectionArguments) -> dict[str, Candidate]:
    """Finds the weights to rank, by the SHA-256 of their file.

    Raises:
        InputError: there are no weights, or a folder of `--checkpoints` holds none.
    """
    run_dir = Path(args.run_dir)
    if not (run_dir / "arguments.yaml").is_file():
        raise InputError(
            f"--run_dir is {run_dir}, which has no arguments.yaml; give an output folder of synthset train"
        )
    steps = sorted(run_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    there = {"final": run_dir} | {path.name: path for path in (*sorted(run_dir.glob("best-*")), *steps)}
    there = {name: folder for name, folder in there.items() if find_network(folder)}
    candidates: dict[str, Candidate] = {}
    for name in args.checkpoints or there:
        folder = there.get(name, Path(name))
        unet = find_network(folder)
        if unet is None:
            raise InputError(
                f"--checkpoints has {name}, which holds no weights; give paths of pipelines or checkpoints, or from "
                f"{run_dir}: {', '.join(there) or 'none'}"
            )
        if (folder / "scheduler").is_dir():
            scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        elif (folder.resolve().parent / "arguments.yaml").is_file():
            scheduler = noise_schedule(read_flags(folder.resolve().parent))
        else:
            raise InputError(f"--checkpoints has {name}, which lies in no run's folder; leave it where it was written")
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(unet.glob("*.safetensors")))).hexdigest()
        candidates.setdefault(digest, Candidate([], folder, unet, scheduler)).names.append(name)
    if not candidates:
        raise InputError(f"--run_dir {run_dir} holds no weights yet; let synthset train write a checkpoint")
    return candidates


def require_split(args: SelectionArguments) -> None:
    """Raises InputError if `--probe` has no split `--probe_split`."""
    assert args.probe is not None
    try:
        load_pairs(args.probe, args.probe_split)
    except SplitNotFoundError as error:
        raise InputError(
            f"--probe {error}, named with --probe_split; not your test pairs, which could then test nothing"
        ) from None
    except InputError:
        pass  # its columns may be given in --probe_segmentation; synthset segment reports other errors


def write_validation(pairs: Dataset | list, folder: Path) -> Path:
    """Writes the validation pairs of a run to `folder`, as a dataset with the split `validation`."""
    rows = pairs
    if not isinstance(pairs, Dataset):  # tensors of a streamed run
        rows = ({"image": to_pil_image(image), "mask": to_pil_image(mask)} for image, mask in pairs)
    write_pairs_shard(folder / "data" / "validation-00000-of-00001.parquet", rows, pair_features())
    return folder


def probe(
    args: SelectionArguments, pipeline: SynthSetPipeline, test: Path | str, crop_size: int, folder: Path
) -> float:
    """Trains a segmenter on pairs that `pipeline` generates, at the scale of crops of `crop_size` pixels; returns its
    Dice
    on the split `--probe_split` of `test`."""
    pipeline.save_pretrained(folder / "pipeline")
    generated, results = folder / "generated", folder / "segmentation"
    flags = ["--model", folder / "pipeline", "--output_dir", generated, "--num_samples", args.probe_num_samples]
    call(SCRIPTS / "generate_dataset.py", *flags, *shlex.split(args.probe_generation))
    flags = ["--dataset", generated, "--test_dataset", test, "--test_split", args.probe_split, "--output_dir", results]
    flags += ["--resolution", pipeline.unet.config.sample_size, "--crop_size", crop_size]
    call(SCRIPTS / "train_segmentation.py", *flags, *shlex.split(args.probe_segmentation))
    return json.loads((results / "results.json").read_text())["dice"]


def draw_figure(rows: list[dict], measures: list[str]) -> Figure:
    """Draws a bar chart of every measure (SynthSet, figure 8)."""
    figure, axes = pyplot.subplots(
        1, len(measures), figsize=(1 + 3.5 * len(measures), 1 + 0.4 * len(rows)), sharey=True
    )
    for axis, measure in zip(axes, measures, strict=True):
        values = [row[measure] for row in rows]
        best = values.index(BEST[measure](values))
        colors = ["tab:red" if i == best else "tab:gray" for i in range(len(rows))]
        axis.barh([row["weights"] for row in rows], values, color=colors)
        axis.set_title(measure.replace("_", " "))
    axes[0].invert_yaxis()
    figure.tight_layout()
    return figure


def main(args: SelectionArguments) -> None:
    candidates = find_candidates(args)
    training = read_arguments(Path(args.run_dir))
    training.num_divergence_images = args.num_divergence_images
    for candidate in candidates.values():
        side = PairedUNet2DModel.load_config(candidate.unet)["sample_size"]
        if side != training.resolution:
            raise InputError(
                f"--checkpoints has {candidate.name}, which draws pairs of {side} pixels, but --run_dir {args.run_dir} "
                f"trained on {training.resolution}; rank those of one resolution"
            )
    crop_size = training.crop_size
    assert crop_size is not None  # a run records the one that it resolved
    if args.probe not in (None, "validation"):
        require_split(args)
    output_dir = Path(args.output_dir)
    run = json.loads((Path(args.run_dir) / "run.json").read_text())  # identifies its pairs by content
    uncounted = ("output_dir", "checkpoints", "run_dir")
    claim_output_dir(output_dir, "settings.json", {**asdict(args), **run}, uncounted)
    accelerator = Accelerator()
    train, validation = load_training_pairs(training, num_processes=1)
    stream, items = build_streams(training, train, validation)
    test: Path | str | None = args.probe
    if test == "validation":
        test = write_validation(validation, output_dir / "probe-pairs")

    file = output_dir / "selection.json"
    measured = {row["sha256"]: row for row in json.loads(file.read_text())} if file.exists() else {}
    for number, (digest, candidate) in enumerate(candidates.items(), start=1):
        if digest not in measured:
            logger.info(f"weights {number} of {len(candidates)}: {candidate.name}, validation")
            unet = PairedUNet2DModel.from_pretrained(candidate.unet).to(accelerator.device).eval()
            pipeline, loss = SynthSetPipeline(unet, candidate.scheduler), (unet, candidate.scheduler, items)
            items.processor = pipeline.image_processor
            row = {"validation_loss": validation_loss(*loss, training.batch_size, accelerator)}
            row |= inspect_pairs(pipeline, training, stream)[1]
            if test is not None:
                logger.info(f"weights {number} of {len(candidates)}: {candidate.name}, segmentation probe")
                folder = output_dir / f"probe-{digest[:8]}"
                row["dice"] = probe(args, pipeline, test, crop_size, folder)
            measured[digest] = row | {"sha256": digest}
        measured[digest]["weights"] = candidate.name
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(list(measured.values()), indent=2) + "\n")

    # ranked by the segmentation probe, or without one by the color divergence
    rows = [measured[digest] for digest in candidates]
    measures = [measure for measure in BEST if measure in rows[0]]
    rows.sort(key=lambda row: row[measures[-1]], reverse=BEST[measures[-1]] is max)
    lines = [f"| weights | {' | '.join(measures)} |", "|---" * (1 + len(measures)) + "|"]
    lines += [f"| {row['weights']} | {' | '.join(f'{row[m]:.4f}' for m in measures)} |" for row in rows]
    lines += ["", *(f"best {m}: {BEST[m](rows, key=itemgetter(m))['weights']}" for m in measures)]
    if args.probe_split != "validation":
        lines += [
            "",
            f"Warning: chosen on the split {args.probe_split} of {args.probe}. Scores of the best weights on it are "
            "biased; test on pairs that were not used for selection.",
        ]
    with atomic_path(output_dir / "selection.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    matplotlib.use("Agg")
    with atomic_path(output_dir / "figure8.png") as temporary:
        draw_figure(rows, measures).savefig(temporary, format="png", dpi=120)
    print("\n".join(lines))
    best = next(candidate for digest, candidate in candidates.items() if digest == rows[0]["sha256"])
    print(
        f"Wrote selection.md, selection.json and figure8.png to {output_dir}. To generate with the best weights, run: "
        f"synthset generate --model {shlex.quote(str(best.folder))} --output_dir DATASET"
    )


if __name__ == "__main__":
    run(main, SelectionArguments)
