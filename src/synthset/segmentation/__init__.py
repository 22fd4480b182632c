"""The yardstick of a generated dataset: a segmenter trained on it.

`data` makes inputs of pairs, `segmenter` is the network with its preprocessing, which predicts, saves and loads,
`results` tests it.
"""

from .data import PairSource, TestPhotos, TrainingPairs, check_stage, check_test, load_source, tile_boxes
from .results import prediction_grid, save, score
from .segmenter import Segmenter, build_segmenter, confidence, load_segmenter, segmentation_loss

__all__ = [
    "PairSource",
    "Segmenter",
    "TestPhotos",
    "TrainingPairs",
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
    "tile_boxes",
]
