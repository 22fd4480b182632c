"""Segmentation models, the downstream evaluation of generated datasets.

`data` prepares pairs for training and testing, `segmenter` is the network with its preprocessing, prediction and
loading, `results` tests it.
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
