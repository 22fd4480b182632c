from .augmentation import Augmentation
from .dataset import SplitNotFoundError, files_digest, load_pairs, load_train_validation, pairs_digest
from .growing import GrowingDataset
from .scale import choose_crop_size, recorded_crop_size, resolve_crop_size, smallest_side
from .store import PairTensors
from .streaming import StreamedPairs, stream_train_validation
from .transforms import ObjectCropPair, ResizePair, eval_transform, resize_pair, to_tv_tensors, train_transform
from .writer import export_imagefolder, pair_features, read_rows, verify_pairs, write_pairs, write_pairs_shard

__all__ = [
    "Augmentation",
    "GrowingDataset",
    "ObjectCropPair",
    "PairTensors",
    "ResizePair",
    "SplitNotFoundError",
    "StreamedPairs",
    "choose_crop_size",
    "eval_transform",
    "export_imagefolder",
    "files_digest",
    "load_pairs",
    "load_train_validation",
    "pair_features",
    "pairs_digest",
    "read_rows",
    "recorded_crop_size",
    "resize_pair",
    "resolve_crop_size",
    "smallest_side",
    "stream_train_validation",
    "to_tv_tensors",
    "train_transform",
    "verify_pairs",
    "write_pairs",
    "write_pairs_shard",
]
