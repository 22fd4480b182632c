"""Segmentation models, the downstream evaluation of generated datasets.

`data` prepares pairs for training and testing, augmented as in `augmentation`; `segmenter` is the network with its
preprocessing, prediction and loading, `encoder_weights` loads pretrained weights of its encoder, `optimization` holds
what it is trained by, `results` tests it.
"""

from .data import PairSource, TestPhotos, TrainingPairs, check_stage, check_test, load_source
from .optimization import BestWeights, build_lr_scheduler, build_optimizer
from .results import prediction_grid, save, score
from .segmenter import Label, Segmenter, begin_with, build_segmenter, confidence, load_segmenter, segmentation_loss

__all__ = [
    "BestWeights",
    "Label",
    "PairSource",
    "Segmenter",
    "TestPhotos",
    "TrainingPairs",
    "begin_with",
    "build_lr_scheduler",
    "build_optimizer",
    "build_segmenter",
    "check_stage",
    "check_test",
    "confidence",
    "load_segmenter",
    "load_source",
    "prediction_grid",
    "save",
    "score",
    "segmentation_loss",
]
