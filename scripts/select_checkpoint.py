"""Ranks the weights that a training run kept: which of them should generate the dataset?

    python scripts/select_checkpoint.py --run_dir RUN --output_dir SELECTION --probe REAL_TEST

SynthSet (section 4, "Weight Selection") chooses by validation loss, takes the last, or chooses by the divergence of
the colours; what decides is a segmenter trained on what they generate, which `--probe` tries for each. SELECTION gets
`selection.md`, `selection.json` and `figure8.png`; what is there already is not measured again.
"""

import hashlib
import json
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import matplotlib
import yaml
from accelerate import Accelerator
from matplotlib import pyplot

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.cli import run
from synthset.data.writer import atomic_path
from synthset.errors import InputError
from synthset.settings import claim_output_dir
from synthset.training.arguments import TrainingArguments
from synthset.training.setup import build_noise_schedule, build_streams, load_training_pairs
from synthset.training.validation import inspect_pairs, validation_loss

SCRIPTS = Path(__file__).parent
BEST = {"validation_loss": min, "divergence": min, "dice": max}


@dataclass
class SelectionArguments:
    """Ranks the checkpoints of a training run.

    Args:
        run_dir: the output folder of train_paired.py.
        output_dir: where the ranking goes.
        checkpoints: folders in `run_dir`, such as '[checkpoint-500,best-loss,final]'; all when not given.
        num_divergence_images: pairs drawn from each to compare their colours with the training set's.
        probe: real pairs to test a segmenter on that is trained on what each checkpoint generates; none when not given.
        probe_num_samples: pairs generated for that.
        probe_generation: further flags of generate_dataset.py for it.
        probe_segmentation: further flags of train_segmentation.py for it, such as the mask column of `probe`.
    """

    run_dir: str
    output_dir: str
    checkpoints: list[str] = field(default_factory=list)
    num_divergence_images: int = 64
    probe: str | None = None
    probe_num_samples: int = 500
    probe_generation: str = "--scheduler dpmsolver++ --num_inference_steps 25"
    probe_segmentation: str = "--encoder_name resnet18 --max_train_steps 400"

    def __post_init__(self):
        for name in ("num_divergence_images", "probe_num_samples"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give 1 or more")


def find_candidates(args: SelectionArguments) -> dict[str, Path]:
    """The networks to rank, by name; the same weights under several names are one."""
    run_dir = Path(args.run_dir)
    if not (run_dir / "arguments.yaml").is_file():
        raise InputError(
            f"--run_dir is {run_dir}, which has no arguments.yaml; give an output folder of train_paired.py"
        )
    networks = {"final": run_dir / "unet"}
    networks |= {path.name: path / "unet" for path in sorted(run_dir.glob("best-*"))}
    for path in sorted(run_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
        networks[path.name] = path / ("unet_ema" if (path / "unet_ema").is_dir() else "unet")
    networks = {name: path for name, path in networks.items() if path.is_dir()}
    unknown = set(args.checkpoints) - set(networks)
    if unknown or not networks:
        raise InputError(f"--checkpoints has {sorted(unknown)}; {run_dir} holds {', '.join(networks) or 'none'}")
    names: dict[str, list[str]] = {}
    for name in args.checkpoints or networks:
        digest = hashlib.sha256(b"".join(f.read_bytes() for f in sorted(networks[name].glob("*.safetensors"))))
        names.setdefault(digest.hexdigest(), []).append(name)
    return {" = ".join(same): networks[same[0]] for same in names.values()}


def probe(args: SelectionArguments, pipeline: SynthSetPipeline, folder: Path) -> float:
    """Dice on `--probe` of a segmenter trained on what `pipeline` generates."""
    pipeline.save_pretrained(folder / "pipeline")
    generated, results = folder / "generated", folder / "segmentation"
    generate = ["generate_dataset.py", "--model", str(folder / "pipeline"), "--output_dir", str(generated)]
    generate += ["--num_samples", str(args.probe_num_samples), *shlex.split(args.probe_generation)]
    train = ["train_segmentation.py", "--train", str(generated), "--test", args.probe, "--output_dir", str(results)]
    size = str(pipeline.unet.config.sample_size)
    train += ["--resolution", size, *shlex.split(args.probe_segmentation)]
    for command in (generate, train):
        subprocess.run([sys.executable, str(SCRIPTS / command[0]), *command[1:]], check=True)
    return json.loads((results / "results.json").read_text())["dice"]


def draw_figure(rows: list[dict], measures: list[str]):
    """Bars of every measure (SynthSet, figure 8)."""
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
    output_dir = Path(args.output_dir)
    claim_output_dir(output_dir, "settings.json", asdict(args), uncounted=("output_dir", "checkpoints"))
    saved = yaml.safe_load((Path(args.run_dir) / "arguments.yaml").read_text())
    training = TrainingArguments(**{f.name: saved[f.name] for f in fields(TrainingArguments)})
    training.num_divergence_images = args.num_divergence_images
    accelerator = Accelerator()
    scheduler = build_noise_schedule(training)
    stream, items = build_streams(training, *load_training_pairs(training, num_processes=1))

    measured = output_dir / "selection.json"
    done = {row["weights"]: row for row in json.loads(measured.read_text())} if measured.exists() else {}
    rows = []
    for name, path in candidates.items():
        if name not in done:
            unet = PairedUNet2DModel.from_pretrained(path).to(accelerator.device).eval()
            done[name] = {
                "weights": name,
                "validation_loss": validation_loss(unet, scheduler, items, training.train_batch_size, accelerator),
                **inspect_pairs(SynthSetPipeline(unet, scheduler), training, stream)[1],
            }
            if args.probe is not None:
                folder = output_dir / name.split(" = ")[0]
                done[name]["dice"] = probe(args, SynthSetPipeline(unet, scheduler), folder)
        rows.append(done[name])
        with atomic_path(measured) as temporary:
            temporary.write_text(json.dumps(rows, indent=2) + "\n")

    measures = [measure for measure in BEST if measure in rows[0]]
    lines = [f"| weights | {' | '.join(measures)} |", "|---" * (1 + len(measures)) + "|"]
    lines += [f"| {row['weights']} | {' | '.join(f'{row[m]:.4f}' for m in measures)} |" for row in rows]
    lines += ["", *(f"best {m}: {BEST[m](rows, key=lambda row, m=m: row[m])['weights']}" for m in measures)]
    with atomic_path(output_dir / "selection.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    matplotlib.use("Agg")
    with atomic_path(output_dir / "figure8.png") as temporary:
        draw_figure(rows, measures).savefig(temporary, format="png", dpi=120)
    print("\n".join(lines))


if __name__ == "__main__":
    run(main, SelectionArguments)
