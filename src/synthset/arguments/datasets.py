"""Flags of the commands that make datasets without a generator: `prepare`, `paste` and `label`."""

import re
from dataclasses import dataclass, field
from typing import Literal

from ..errors import InputError
from .base import Arguments
from .choices import Scene, Scheduler


@dataclass(kw_only=True)
class PairingArguments(Arguments):
    """Flags of which files are a pair.

    Args:
        image_column: image column of a dataset, or image folder of a raw folder.
        mask_column: mask column of a dataset, or mask folder of a raw folder.
        image_pattern: where the images of a raw folder are, with {name} for what an image and its mask share:
            'rgb/{name}_photo.jpg'.
        mask_pattern: the same for the masks; * stands for what differs between several masks of an image.
        mask_suffix: what a mask's name has after its image's name, such as _mask.
        pairs_list: CSV, JSONL or Parquet file that lists the pairs, with paths relative to the dataset.
        missing_masks: a photo without a mask, or without an object in an annotation file, is an error, has no object
            (empty), or is left out (skip).
        merge_masks: take the union of several masks of one image.
        group_column: column of the field, the date or the like; what has the same value stays in one split.
    """

    group = "Pairs"

    image_column: str | None = None
    mask_column: str | None = None
    image_pattern: str | None = None
    mask_pattern: str | None = None
    mask_suffix: str = ""
    pairs_list: str | None = None
    missing_masks: Literal["error", "empty", "skip"] = "error"
    merge_masks: bool = False
    group_column: str | None = None


@dataclass(kw_only=True)
class MaskArguments(Arguments):
    """Flags of what masks mean.

    Args:
        object_value: mask values that are the object.
        object_color: mask colors that are the object, as in '#b00000'.
        classes: file of the classes' names and values or colors in masks (JSON, YAML, CSV, or lines of a name and a
            value or color).
        object_class: names of the classes that are the object.
        mask_threshold: gray values above it are the object.
        instances: mask values are numbers of instances, any but 0 the object.
        mask_channel: alpha takes masks from the alpha channel.
        mask_orientation: whether masks of photos that EXIF rotates were drawn on the upright photo or on its stored
            pixels; where only one fits, that one if not given, else upright.
    """

    group = "Masks"

    object_value: list[int] | None = None
    object_color: list[str] | None = None
    classes: str | None = None
    object_class: list[str] | None = None
    mask_threshold: int | None = None
    instances: bool = False
    mask_channel: Literal["alpha"] | None = None
    mask_orientation: Literal["upright", "stored"] | None = None


@dataclass(kw_only=True)
class BandArguments(Arguments):
    """Flags of how photos are read.

    Args:
        bands: bands of a TIFF that become red, green and blue, from 1; its red, green and blue, or its only one, if not
            given.
        bit_depth: significant bits of photos that have more than 8 bits per channel; the file's if not given.
    """

    group = "Photos"

    bands: list[int] | None = None
    bit_depth: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bit_depth is not None and not 9 <= self.bit_depth <= 16:
            raise InputError(f"--bit_depth is {self.bit_depth}; give 9 to 16")
        if self.bands is not None and not (len(self.bands) in (1, 3) and min(self.bands) >= 1):
            raise InputError(f"--bands is {self.bands}; give one band, or those of red, green and blue, from 1")


@dataclass(kw_only=True)
class PhotoArguments(BandArguments):
    """Flags of how annotated photos are read.

    Args:
        background_color: color behind transparent pixels, as in '#000000'.
        tile_size: side of the tiles that photos and rasters are cut into, in pixels.
        tile_overlap: pixels that neighboring tiles share.
    """

    group = "Photos"

    background_color: str | None = None
    tile_size: int | None = None
    tile_overlap: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "tile_size")
        self.require_at_least(0, "tile_overlap")
        self.require_needed({"tile_overlap": "tile_size"})
        if self.tile_size is not None and self.tile_overlap >= self.tile_size:
            raise InputError(f"--tile_overlap is {self.tile_overlap}; give less than --tile_size {self.tile_size}")


@dataclass(kw_only=True)
class PrepareArguments(PhotoArguments, MaskArguments, PairingArguments):
    """Checks image-mask pairs and writes them as a Hugging Face dataset.

    Args:
        dataset: a raw folder (`images/` and `masks/`), the export of an annotation tool (COCO, YOLO, LabelMe, CVAT,
            Datumaro, Label Studio, VIA), a saved dataset or parquet folder, a Hub dataset id, or `demo`.
        output_dir: new or empty folder to write.
        validation_fraction: share of the training pairs held out if the dataset has no split `validation`; above 0,
            below 1.
        seed: decides which pairs are held out.
        data_license: license of the data, for its card and for the cards of what is made from it: an identifier of the
            Hub such as cc-by-4.0, or a name, or a name and an address.
        resolution: side in pixels that pairs will be trained at, for the report of object sizes.
        crop_size: side of the training crops in pixels, for the same; 512, or the smallest side if that is less, if
            not given.
        strict: refuse what is only suspicious.
    """

    group = "Dataset"

    dataset: str
    output_dir: str
    validation_fraction: float = 0.2
    seed: int = 0
    data_license: str | None = None
    resolution: int = 128
    crop_size: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"--validation_fraction is {self.validation_fraction}; give a number between 0 and 1")
        self.require_at_least(1, "resolution", "crop_size")
        self.require_at_least(0, "mask_threshold")
        ways = ("object_value", "object_color", "object_class", "mask_threshold", "instances")
        given = [f"--{name}" for name in ways if getattr(self, name) not in (None, False)]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} both say what the object is; give one")
        for name in ("background_color", *(["object_color"] if self.object_color else [])):
            value = getattr(self, name)
            for color in [value] if isinstance(value, str) else value or []:
                if not re.fullmatch("#[0-9a-fA-F]{6}", color):
                    raise InputError(f"--{name} is {color!r}; give a color as '#rrggbb', in quotes")


@dataclass(kw_only=True)
class PastingArguments(Arguments):
    """Flags of how objects are pasted.

    Args:
        num_objects: smallest and largest number of objects in a pair; Poisson-distributed with the mean of the
            annotated images, and at least 1, if not given.
        num_distractors: the same for unlabeled pieces of background in the shape of objects.
        min_area: smallest connected part of a mask that counts as an object, in pixels.
        max_overlap: share of an object's pixels that may cover objects pasted before, 0 to 1.
        scale: smallest and largest factor for the size of an object, 0.1 or more.
        max_rotation: largest rotation, in degrees, both ways; 10 where up and down matter.
        color_balance: 0 leaves an object's colors, 1 adapts them fully to the light of where it goes.
        augment: change brightness, contrast, saturation and sharpness of the finished images.
    """

    group = "Pasting"

    num_objects: list[int] | None = None
    num_distractors: list[int] | None = None
    min_area: int = 100
    max_overlap: float = 0.3
    scale: list[float] = field(default_factory=lambda: [0.8, 1.25])
    max_rotation: float = 180.0
    color_balance: float = 1.0
    augment: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "min_area")
        self.require_at_least(0, "max_rotation")
        self.require_share("max_overlap", "color_balance")
        for name, smallest in {"num_objects": 0, "num_distractors": 0, "scale": 0.1}.items():
            value = getattr(self, name)
            if value is not None and not (len(value) == 2 and smallest <= value[0] <= value[1]):
                raise InputError(f"--{name} is {value}; give the smallest and the largest, from {smallest}")


@dataclass(kw_only=True)
class CopyPasteArguments(PastingArguments):
    """Makes a dataset of image-mask pairs by pasting annotated objects on backgrounds.

    Args:
        dataset: annotated pairs: a raw folder (`images/` and `masks/`), a saved dataset or parquet folder, a Hub
            dataset id, or `demo`.
        output_dir: folder of the new dataset.
        backgrounds: folder of images, or a video, without objects; the annotated images with their objects replaced by
            background if not given.
        video_every: take every N-th frame of a video.
        num_samples: pairs to make; may be raised later.
        resolution: side of the pairs, in pixels.
        crop_size: side of the piece of background that is pasted on, in pixels, which is resized to the resolution;
            512, or the smallest background if that is less, if not given.
        seed: decides, with the inputs and a pair's number, the pair; 0 or more.
        samples_per_shard: pairs in a parquet file; the processes share out whole files.
        num_workers: processes beside this one; 0 = this one alone, which is quicker for few pairs.
        split: split of the annotated pairs.
        image_column: image column of a dataset, or image folder of a raw folder.
        mask_column: mask column of a dataset, or mask folder of a raw folder.
    """

    group = "Dataset"

    dataset: str
    output_dir: str
    backgrounds: str | None = None
    video_every: int = 30
    num_samples: int = 5000
    resolution: int = 256
    crop_size: int | None = None
    seed: int = 0
    samples_per_shard: int = 250
    num_workers: int = 2
    split: str = "train"
    image_column: str | None = None
    mask_column: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "video_every", "num_samples", "resolution", "crop_size", "samples_per_shard")
        self.require_at_least(0, "seed", "num_workers")


@dataclass(kw_only=True)
class RenderArguments(Arguments):
    """Renders a dataset of image-mask pairs: heads of cereals, seedlings among weeds.

    Args:
        output_dir: folder of the new dataset.
        scenes: what to render, in turn: `cereals`, canopies of many varieties whose heads are the objects; `wheat`, the
            canopy of `demo`; `barley` and `sorghum`, a field each that is none of `cereals`; and `seedlings`,
            rows of a crop on soil among weeds.
        num_samples: pairs to render; may be raised later.
        resolution: side of the pairs, in pixels.
        seed: decides, with a pair's number, the pair; 0 or more. No pair is one of `demo`.
        samples_per_shard: pairs in a parquet file; the processes share out whole files.
        num_workers: processes beside this one; 0 = this one alone.
    """

    group = "Rendering"

    output_dir: str
    scenes: list[Scene] = field(default_factory=lambda: ["cereals", "seedlings"])
    num_samples: int = 2000
    resolution: int = 256
    seed: int = 0
    samples_per_shard: int = 100
    num_workers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "num_samples", "samples_per_shard")
        self.require_at_least(32, "resolution")
        self.require_at_least(0, "seed", "num_workers")
        if not self.scenes:
            raise InputError("--scenes is empty; name one or more")


@dataclass(kw_only=True)
class DrawArguments(Arguments):
    """Flags of a generator that labels: a model of `train` with `joint_share` below 1.

    Args:
        num_draws: masks drawn of each image; the vote is the mask of the highest mean Dice with them.
        scheduler: sampler of the masks.
        num_inference_steps: denoising steps of a mask.
        seed: decides, with the model, the masks; 0 or more.
    """

    group = "Generator"

    num_draws: int = 10
    scheduler: Scheduler = "dpmsolver++"
    num_inference_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "num_draws", "num_inference_steps")
        self.require_at_least(0, "seed")


@dataclass(kw_only=True)
class TestArguments(Arguments):
    """Flags of a test of the labels.

    Args:
        test_dataset: pairs with real masks, like those of `dataset` elsewhere, on which labels are scored first:
            results.json, with how often pixels of each probability are the object.
        test_split: their split; `test`, or else `validation` or `train`, if not given.
        image_column: image column of theirs, or image folder of a raw folder.
        mask_column: mask column of theirs, or mask folder of a raw folder.
    """

    __test__ = False  # pytest would collect the class by its name

    group = "Test"

    test_dataset: str | None = None
    test_split: str | None = None
    image_column: str | None = None
    mask_column: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_needed(dict.fromkeys(("test_split", "image_column", "mask_column"), "test_dataset"))


@dataclass(kw_only=True)
class PseudoLabelArguments(DrawArguments, TestArguments, BandArguments):
    """Labels images that have no masks with a trained segmenter or generator.

    Args:
        model: a folder seed-N of `segment`, a model of `train` with `joint_share` below 1, or the id of one of both on
            the Hub.
        images: folder of images, one image, or a video. Of an orthomosaic (a TIFF that is georeferenced or has more
            than 2**28 pixels), a georeferenced mask NAME_mask.tif is written; it is no pair of the dataset.
        output_dir: folder of the new dataset and of the masks of orthomosaics.
        video_every: take every N-th frame of a video.
        min_confidence: leave out pairs below it, 0 to 1; 0 keeps all.
        batch_size: tiles of an image in the network at once.
        samples_per_shard: images per parquet file.
    """

    group = "Dataset"

    model: str
    images: str
    output_dir: str
    video_every: int = 1
    min_confidence: float = 0.0
    batch_size: int = 16
    samples_per_shard: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "video_every", "batch_size", "samples_per_shard")
        self.require_share("min_confidence")


@dataclass(kw_only=True)
class FilterArguments(DrawArguments):
    """Keeps the generated pairs whose masks agree best with what a judge sees in their images.

    Args:
        dataset: the generated pairs; what `train` takes as a dataset.
        split: their split.
        output_dir: folder of the new dataset.
        judge: a folder seed-N of `segment`, best trained on real photos, a model of `train` with `joint_share` below 1,
            or the id of one of both on the Hub; the column `agreement` of `generate --refine_masks` if not given.
        keep: share of the pairs to keep, above 0, at most 1, of those with an object and of those without.
        difficulty: draw as many of the kept pairs with replacement, in proportion to this power of 1 - the judge's
            confidence; 0 keeps each once.
        ignore_differing: add a column `ignore` that marks where `first_mask` and the mask of `generate --refine_masks`
            differ; `segment` does not learn from these pixels.
        seed: decides what is drawn; 0 or more.
    """

    group = "Filter"

    dataset: str
    output_dir: str
    split: str = "train"
    judge: str | None = None
    keep: float = 0.7
    difficulty: float = 0.0
    ignore_differing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_share("keep")
        self.require_positive("keep")
        self.require_at_least(0, "difficulty")
        self.require_needed({"difficulty": "judge"})
