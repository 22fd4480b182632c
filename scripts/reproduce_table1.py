"""Reproduces SynthSet's table 1 on any dataset: what a segmenter learns from each kind of synthetic data.

    python scripts/reproduce_table1.py --train REAL_TRAIN --test REAL_TEST --output_dir TABLE

Every row trains a generator on REAL_TRAIN, generates pairs, trains segmenters on them alone and on them with
fine-tuning on REAL_TRAIN, and tests both on REAL_TEST. With `--finetune MORE_REAL`, which may be repeated, fine-tuning
goes on there: the paper's "all fine-tuning". For comparison, there are real pairs only, and real and synthetic ones
mixed. TABLE gets `table1.md` after every row. The same command line continues: each of its parts does.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from synthset.cli import call, run
from synthset.data.writer import atomic_path
from synthset.errors import InputError
from synthset.evaluation.segmentation_metrics import mean_and_std
from synthset.settings import claim_output_dir

SCRIPTS = Path(__file__).parent
GAN = ["--gan_weight", "0.25", "--curriculum", "true"]
# row: the flags of train_paired.py beside the shared ones; None needs no generator
ROWS: dict[str, list[str] | None] = {
    "concat": ["--variant", "concat"],
    "concat_gan": ["--variant", "concat", *GAN],
    "shared_encoder": ["--variant", "shared_encoder"],
    "two_encoder": ["--variant", "two_encoder"],
    "two_encoder_gan": ["--variant", "two_encoder", *GAN],
    "copy_paste": None,
    "real": None,
}
MEASURES = ("dice", "iou")
COLUMNS = {
    "synthetic": "synthetic only",
    "finetuned": "+ fine-tuned on real",
    "all": "+ all fine-tuning",
    "mixed": "mixed with real",
}


@dataclass
class TableArguments:
    """Reproduces table 1 on a dataset.

    Args:
        train: real pairs: what the generators learn from and the segmenters are fine-tuned on.
        test: real pairs to test on.
        output_dir: where the table and everything it is made of goes.
        finetune: real pairs of a further stage of fine-tuning, after `train`; may be repeated. None when not given.
        image_column: image column or sub-folder of `train` and `test`.
        mask_column: mask column or sub-folder of `train` and `test`.
        rows: which of `concat`, `concat_gan`, `shared_encoder`, `two_encoder`, `two_encoder_gan`, `copy_paste`, `real`.
        resolution: side in pixels of the generated pairs and of what the segmenter gets.
        crop_size: side in pixels of the crops of real images that are resized to it.
        training: flags of train_paired.py for every generator; the budget is here.
        steps: optimizer steps of single rows in place of the shared ones, such as '{two_encoder: 2000}', to give slower
            models the same time.
        num_samples: pairs that a generator generates.
        generation: flags of generate_dataset.py.
        copy_paste: flags of make_copy_paste.py.
        segmentation: flags of train_segmentation.py.
        seeds: a segmenter is trained for each.
        mixed: rows whose pairs segmenters are also trained on mixed half and half with real ones.
        launch_config: accelerate configuration, such as accelerate_configs/multi_gpu.yaml, for training, generation and
            segmenters; batch sizes are per process. One process when not given.
    """

    train: str
    test: str
    output_dir: str
    finetune: list[str] | None = None
    image_column: str | None = None
    mask_column: str | None = None
    rows: list[str] = field(default_factory=lambda: list(ROWS))
    resolution: int = 64
    crop_size: int = 256
    training: str = "--config scripts/recipes/fast.yaml"
    steps: dict[str, int] = field(default_factory=dict)
    num_samples: int = 1000
    generation: str = "--scheduler dpmsolver++ --num_inference_steps 25"
    copy_paste: str = ""
    segmentation: str = "--encoder_name resnet18 --max_train_steps 400"
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    mixed: list[str] = field(default_factory=lambda: [row for row in ROWS if row != "real"])
    launch_config: str | None = None

    def __post_init__(self):
        for name in ("rows", "steps", "mixed"):
            unknown = [row for row in getattr(self, name) if row not in ROWS]
            if unknown:
                raise InputError(f"--{name} has {', '.join(unknown)}; rows are {', '.join(ROWS)}")
        if self.launch_config is not None and not Path(self.launch_config).is_file():
            raise InputError(f"--launch_config {self.launch_config}: no such file; try accelerate_configs")


def make_pairs(args: TableArguments, row: str, columns: list[str]) -> Path:
    """The folder of the row's synthetic pairs, made now if it is not there."""
    folder = Path(args.output_dir) / row
    generated = folder / "generated"
    if (generated / "README.md").exists():  # the last that is written
        return generated
    size = ["--resolution", args.resolution, "--crop_size", args.crop_size, *columns]
    count = ["--num_samples", args.num_samples, "--output_dir", generated]
    if ROWS[row] is None:
        call(SCRIPTS / "make_copy_paste.py", "--dataset", args.train, *size, *count, *shlex.split(args.copy_paste))
        return generated
    steps = ["--max_train_steps", args.steps[row]] if row in args.steps else []
    flags = ["--dataset", args.train, *size, "--output_dir", folder / "model", *shlex.split(args.training)]
    launch = partial(call, launch_config=args.launch_config)
    launch(SCRIPTS / "train_paired.py", *flags, *ROWS[row], *steps)
    launch(SCRIPTS / "generate_dataset.py", "--model", folder / "model", *count, *shlex.split(args.generation))
    return generated


def main(args: TableArguments) -> None:
    output_dir = Path(args.output_dir)
    uncounted = ("output_dir", "rows", "steps", "seeds", "mixed", "launch_config")
    claim_output_dir(output_dir, "settings.json", asdict(args), uncounted)
    columns = [] if args.image_column is None else ["--image_column", args.image_column]
    columns += [] if args.mask_column is None else ["--mask_column", args.mask_column]
    table: dict[str, dict[str, str]] = {}
    further = [part for source in args.finetune or [] for part in ("--finetune", source)]
    last = {"all": -1} if further else {}
    for row in args.rows:
        # name of the run: its pairs, and for each column the stage after which it is scored
        if row == "real":
            runs = {"real": (["--train", args.train, *further], {"real": 0, **last})}
        else:
            pairs = make_pairs(args, row, columns)
            stages = ["--train", pairs, "--finetune", args.train, *further]
            runs = {"finetuned": (stages, {"synthetic": 0, "finetuned": 1, **last})}
            if row in args.mixed:
                runs["mixed"] = (["--train", pairs, "--train", args.train, "--mix", 0.5], {"mixed": 0})
        for name, (sources, ways) in runs.items():
            results = output_dir / row / name
            flags = ["--test", args.test, "--output_dir", results, "--resolution", args.resolution, *columns]
            flags += ["--seeds", str(args.seeds), "--crop_size", args.crop_size, *shlex.split(args.segmentation)]
            call(SCRIPTS / "train_segmentation.py", *sources, *flags, launch_config=args.launch_config)
            seeds = json.loads((results / "results.json").read_text())["seeds"]
            for way, stage in ways.items():
                scores = [seed["stages"][stage] for seed in seeds]
                table.setdefault(row, {}).update({f"{way} {measure}": cell(scores, measure) for measure in MEASURES})
        write_table(output_dir, table)
    print((output_dir / "table1.md").read_text())


def cell(scores: Sequence[dict], measure: str) -> str:
    """Mean and spread of a measure over seeds, as the table shows it."""
    values = mean_and_std([{measure: score[measure]} for score in scores])
    spread = values[f"{measure}_std"]
    return f"{values[measure]:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def write_table(output_dir: Path, table: dict[str, dict[str, str]]) -> None:
    """The rows so far as the paper lays them out; real pairs alone, which no column is for, in the first."""
    found = {name.split()[0] for cells in table.values() for name in cells}
    ways = [way for way in COLUMNS if way in found or way != "all"]
    titles = [f"{COLUMNS[way]}, {measure}" for way in ways for measure in ("Dice", "IoU")]
    lines = [f"| data | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for row, cells in table.items():
        sources = ["real", *ways[1:]] if row == "real" else ways
        values = [cells.get(f"{way} {measure}", "") for way in sources for measure in MEASURES]
        lines.append(f"| {'real pairs only' if row == 'real' else row} | {' | '.join(values)} |")
    with atomic_path(output_dir / "table1.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    run(main, TableArguments)
