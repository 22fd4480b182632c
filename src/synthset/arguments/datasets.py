"""Flags of the commands that make datasets without a generator: `prepare`, `paste` and `label`."""

from dataclasses import dataclass, field

from ..errors import InputError
from .base import Arguments


@dataclass(kw_only=True)
class PrepareArguments(Arguments):
    """Checks image-mask pairs and writes them as a Hugging Face dataset.

    Args:
        dataset: a raw folder (`images/` and `masks/`), a saved dataset or parquet folder, a Hub dataset id, or `demo`.
        output_dir: new or empty folder to write.
        validation_fraction: share of the training pairs held out if the dataset has no split `validation`; above 0,
            below 1.
        seed: decides which pairs are held out.
        image_column: image column of a dataset, or image folder of a raw folder.
        mask_column: mask column of a dataset, or mask folder of a raw folder.
        data_license: license of the data, for its card and for the cards of what is made from it: an identifier of the
            Hub such as cc-by-4.0, or a name, or a name and an address.
    """

    group = "Dataset"

    dataset: str
    output_dir: str
    validation_fraction: float = 0.2
    seed: int = 0
    image_column: str | None = None
    mask_column: str | None = None
    data_license: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"--validation_fraction is {self.validation_fraction}; give a number between 0 and 1")


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
class PseudoLabelArguments(Arguments):
    """Labels images that have no masks with a trained segmenter.

    Args:
        model: a folder seed-N of `segment`, or the id of such a model on the Hub.
        images: folder of images, or a video.
        output_dir: folder of the new dataset.
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
