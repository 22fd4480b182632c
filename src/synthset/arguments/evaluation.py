"""Flags of `synthset report` and `synthset select`."""

from dataclasses import dataclass, field

from ..errors import InputError
from .base import Arguments


@dataclass(kw_only=True)
class ReportArguments(Arguments):
    """Compares a generated dataset with a real one in an HTML page.

    Args:
        generated: the generated dataset: an output folder of `generate`, or anything that `train` takes as a dataset.
        dataset: the real pairs, best those that the generator was trained on.
        output_dir: folder of `report.html`, its figures and `numbers.json`.
        generated_split: split of the generated dataset.
        split: split of the real dataset; a raw folder is `train`.
        image_column: image column of the real dataset, or image folder of a raw folder.
        mask_column: mask column of the real dataset, or mask folder of a raw folder.
        crop_size: side of the squares that the real images are cut into, in pixels, the generator's `crop_size`; what
            the generated pairs record of it, or else 512, or the smallest image side if that is less, if not given.
        generated_crop_size: the same for generated images; their smallest side if not given.
        resolution: side at which both are compared, in pixels; the smaller crop size, at most 256, if not given.
        num_samples: images of each set, at most; 2 or more. Memory grows with its square.
        embedding_model: model of the embeddings behind distances, map and nearest images: a timm model, a folder seed-N
            of `segment`, or random:resnet18, untrained.
        results: scores of segmenters to list, NAME=FILE each with a results.json of `segment`.
        update_card: write distances, the search for copies and scores into the card of the generated dataset, which
            must be a folder.
        batch_size: images embedded at once.
        seed: decides which crops and images are taken; 0 or more.
    """

    group = "Report"

    generated: str
    dataset: str
    output_dir: str
    generated_split: str = "train"
    split: str = "train"
    image_column: str | None = None
    mask_column: str | None = None
    crop_size: int | None = None
    generated_crop_size: int | None = None
    resolution: int | None = None
    num_samples: int = 1000
    embedding_model: str = "vit_small_patch14_dinov2.lvd142m"
    results: list[str] = field(default_factory=list)
    update_card: bool = False
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(2, "num_samples")
        self.require_at_least(1, "batch_size")
        self.require_at_least(0, "seed")
        self.require_at_least(8, "crop_size", "generated_crop_size", "resolution")
        for item in self.results:
            name, _, file = item.partition("=")
            if not name or not file:
                raise InputError(f"--results is {item}; give NAME=FILE, such as synthetic=runs/synthetic/results.json")


@dataclass(kw_only=True)
class SelectionArguments(Arguments):
    """Ranks the checkpoints of training runs by what they generate.

    Args:
        run_dir: output folder of `train`; its pairs are what all checkpoints are measured on.
        output_dir: folder of the ranking.
        checkpoints: folders in `run_dir`, where `final` is what the run ended with, or paths of such folders of other
            runs of the same resolution; all in `run_dir` if not given.
        num_divergence_images: pairs generated from each to compare their colors with the training data's.
        probe: real pairs to test a segmenter on that is trained on what each checkpoint generates: `validation`, those
            that the run was validated on, or your own; no segmenter if not given.
        probe_split: split of your own pairs; choosing on `test` is marked in the result.
        probe_num_samples: pairs generated for the segmenter.
        probe_generation: further flags of `generate` for it.
        probe_segmentation: further flags of `segment` for it, such as the mask column of `probe`.
    """

    group = "Selection"

    run_dir: str
    output_dir: str
    checkpoints: list[str] = field(default_factory=list)
    num_divergence_images: int = 64
    probe: str | None = None
    probe_split: str = "validation"
    probe_num_samples: int = 500
    probe_generation: str = "--scheduler dpmsolver++ --num_inference_steps 25"
    probe_segmentation: str = "--encoder_name resnet18 --max_train_steps 400"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "num_divergence_images", "probe_num_samples")
        if self.probe_split != "validation" and self.probe in (None, "validation"):
            raise InputError(
                f"--probe_split is {self.probe_split} with --probe {self.probe}; give pairs of your own as --probe, or "
                "leave --probe_split out"
            )
