"""Flags of the commands below `synthset research`."""

import re
from dataclasses import dataclass, field
from typing import Literal

from ..errors import InputError
from ..registry import SCHEDULERS
from .base import Arguments, require_seeds


def parse_sampler(sampler: str) -> tuple[str, int]:
    """`"ddim-100"` -> `("ddim", 100)`: a scheduler and its steps.

    Raises:
        InputError: it is none.
    """
    name, _, steps = sampler.rpartition("-")
    if name not in SCHEDULERS or not re.fullmatch("[1-9][0-9]*", steps):
        raise InputError(
            f"--samplers has {sampler!r}; give schedulers ({', '.join(SCHEDULERS)}) with their steps, such as ddim-100 "
            "dpmsolver++-20"
        )
    return name, int(steps)


@dataclass(kw_only=True)
class CompareArguments(Arguments):
    """Compares a super-resolution model with interpolation and with real images, sampler by sampler.

    Args:
        model: output folder or checkpoint of `train-sr`, or the id of such a model on the Hub.
        output_dir: folder of tables, figures and samples.
        dataset: real pairs that the model was not trained on, as in `train-sr`.
        split: split of the dataset; a raw folder is `train`.
        image_column: image column of a dataset, or image folder of a raw folder.
        mask_column: mask column of a dataset, or mask folder of a raw folder.
        crop_size: side of the central crop that is resized to the model's output, in pixels; what the model was trained
            on, or else 512, or the smallest image side if that is less, if not given.
        num_samples: pairs to compare on, the dataset's first.
        samplers: samplers to compare, each a scheduler and its steps.
        batch_size: pairs enlarged at once.
        seed: decides, with its number, a pair's noise; 0 or more.
        mixed_precision: number format of the network; `no` is float32.
    """

    group = "Comparison"

    model: str
    output_dir: str
    dataset: str = "demo"
    split: str = "test"
    image_column: str | None = None
    mask_column: str | None = None
    crop_size: int | None = None
    num_samples: int = 16
    samplers: list[str] = field(
        default_factory=lambda: (
            "ddpm-1000 ddpm-500 ddpm-250 ddpm-100 ddim-500 ddim-250 ddim-100 ddim-50 ddim-20 "
            "dpmsolver++-50 dpmsolver++-20 dpmsolver++-10"
        ).split()
    )
    batch_size: int = 8
    seed: int = 0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "num_samples", "batch_size")
        self.require_at_least(0, "seed")
        for sampler in self.samplers or [""]:  # none at all is refused as an empty name is
            parse_sampler(sampler)


@dataclass(kw_only=True)
class TableArguments(Arguments):
    """Flags that the tables share.

    Args:
        dataset: real pairs. Generators, pasting and segmenters learn from its split `train`, without what is held out
            for validation where there is no split `validation`.
        test_dataset: real pairs to test on.
        output_dir: folder of the tables and of everything they are made of.
        image_column: image column or folder of your data.
        mask_column: mask column or folder of your data.
        resolution: side of the pairs that a generator generates, in pixels.
        crop_size: side of the crops of real images that are resized to it, in pixels.
        training: flags of `train` for every generator; the budget is here.
        sr_training: flags of `train-sr`.
        scale_factor: how many times larger the super-resolution model makes the pairs, 2 or more.
        num_samples: pairs that a generator generates.
        generation: flags of `generate`.
        sr_generation: further flags of `generate`, for enlarging.
        segmentation: flags of `segment`.
        seeds: a segmenter is trained for each.
        launch: several processes for training, generation and segmenters: the name or file of an accelerate
            configuration; one process if not given. Batch sizes are per process.
        remake: make anew what was made with other settings, instead of refusing it.
    """

    group = "Table"

    dataset: str
    test_dataset: str
    output_dir: str
    image_column: str | None = None
    mask_column: str | None = None
    resolution: int = 64
    crop_size: int = 256
    training: str = "--config fast"
    sr_training: str = "--config sr_fast"
    scale_factor: int = 2
    num_samples: int = 1000
    generation: str = "--scheduler dpmsolver++ --num_inference_steps 25"
    sr_generation: str = ""
    segmentation: str = "--encoder_name resnet18 --max_train_steps 400"
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    launch: str | None = None
    remake: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "resolution", "crop_size", "num_samples")
        self.require_at_least(2, "scale_factor")
        require_seeds(self.seeds)


GAN = ["--gan_weight", "0.25", "--curriculum", "true"]
# row of table 1: the flags of `train` beside the shared ones; None needs no generator
ROWS: dict[str, list[str] | None] = {
    "concat": ["--variant", "concat"],
    "concat_gan": ["--variant", "concat", *GAN],
    "shared_encoder": ["--variant", "shared_encoder"],
    "two_encoder": ["--variant", "two_encoder"],
    "two_encoder_gan": ["--variant", "two_encoder", *GAN],
    "copy_paste": None,
    "real": None,
}


@dataclass(kw_only=True)
class Table1Arguments(TableArguments):
    """Reproduces the paper's table 1 on a dataset: the worth of every kind of synthetic data to a segmenter.

    Args:
        finetune: real pairs of further stages of fine-tuning, after `dataset`; none if not given.
        rows: rows of the table.
        steps: optimizer steps of single rows in place of the shared ones, to give slower models the same time, as in
            '{two_encoder: 2000}'.
        sr: add the scores of enlarged pairs.
        copy_paste: flags of `paste`.
        mixed: rows whose pairs segmenters are also trained on mixed half and half with real ones.
        practitioner: flags of `segment`, such as '--config practitioner', for segmenters that are also trained on the
            real pairs and on the mixed ones, and chosen on the validation pairs; none if not given.
    """

    group = "Table 1"

    finetune: list[str] | None = None
    rows: list[str] = field(default_factory=lambda: list(ROWS))
    steps: dict[str, int] = field(default_factory=dict)
    sr: bool = False
    copy_paste: str = ""
    mixed: list[str] = field(default_factory=lambda: [row for row in ROWS if row != "real"])
    practitioner: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rows", "steps", "mixed"):
            unknown = [row for row in getattr(self, name) if row not in ROWS]
            if unknown:
                raise InputError(f"--{name} has {', '.join(unknown)}; rows are {', '.join(ROWS)}")
        if not self.rows:
            raise InputError(f"--rows is []; rows are {', '.join(ROWS)}")
        idle = [row for row in self.steps if ROWS[row] is None]
        if idle:
            raise InputError(f"--steps has {', '.join(idle)}, where no generator is trained; leave it out")
        self.require_needed(dict.fromkeys(("sr_training", "sr_generation", "scale_factor"), "sr"))


TABLE_SEEDS = {"table2": 0, "table3": 1}


@dataclass(kw_only=True)
class Table2Arguments(TableArguments):
    """Reproduces the paper's tables 2 and 3 on a dataset: the worth of more steps of super-resolution.

    Args:
        samplers: samplers to enlarge with, each a scheduler and its steps.
        tables: `table2`, `table3` or both.
    """

    group = "Tables 2 and 3"

    samplers: list[str] = field(
        default_factory=lambda: "ddpm-1000 ddpm-500 ddpm-250 ddpm-100 ddim-500 ddim-250 ddim-100".split()
    )
    tables: list[str] = field(default_factory=lambda: list(TABLE_SEEDS))

    def __post_init__(self) -> None:
        super().__post_init__()
        for sampler in self.samplers or [""]:  # none at all is refused as an empty name is
            parse_sampler(sampler)
        unknown = [name for name in self.tables if name not in TABLE_SEEDS]
        if unknown or not self.tables:
            raise InputError(f"--tables has {', '.join(unknown) or 'none'}; tables are {', '.join(TABLE_SEEDS)}")


@dataclass(kw_only=True)
class BenchmarkArguments(Arguments):
    """Measures speed and memory of the models at the paper's size.

    Args:
        resolution: side of the pairs, in pixels.
        batch_size: pairs in a forward pass and in a training step.
        block_out_channels: channels of each resolution level.
        layers_per_block: residual layers per level.
        device: device to measure, such as cpu, cuda or cuda:1; cuda where there is one if not given.
        mixed_precision: autocast to this type.
        compile: compile the models of the first table, the stock one too.
        repeats: rounds of timing, after one of warm-up.
        dataset: pairs that the data loader reads, as in `train`.
        mask_column: their mask column or folder.
        num_workers: processes of the data loader; 0 = the main process.
    """

    group = "Benchmark"

    resolution: int = 128
    batch_size: int = 4
    block_out_channels: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    layers_per_block: int = 2
    device: str | None = None
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    compile: bool = False
    repeats: int = 5
    dataset: str = "demo"
    mask_column: str | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "resolution", "batch_size", "layers_per_block", "repeats")
        self.require_at_least(0, "num_workers")
