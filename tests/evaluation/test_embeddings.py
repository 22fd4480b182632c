"""Encoders: which weights they have, what they are given, and the map of what they return."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from synthset.errors import InputError
from synthset.evaluation.embeddings import Encoder, embed, load_encoder, principal_components

SNAPSHOT = "0" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the Hub without a network, into which `add` puts a file of timm/test_resnet.r160_in1k."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = tmp_path / "models--timm--test_resnet.r160_in1k"

    def add(name, save):
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text(SNAPSHOT)
        (model / "snapshots" / SNAPSHOT).mkdir(parents=True)
        save(model / "snapshots" / SNAPSHOT / name)

    return add


def weights(seed=5):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet").state_dict()


def test_pretrained_weights_come_from_safetensors(hub):
    hub("model.safetensors", lambda file: save_file(weights(), file))
    encoder = load_encoder("test_resnet.r160_in1k")
    assert encoder.trained and encoder.side == 160 and not encoder.network.training
    loaded = encoder.network.state_dict()
    assert len(loaded) > 10 and all(torch.equal(loaded[name], weights()[name]) for name in loaded)


def test_pickled_weights_are_not_read(hub):
    hub("pytorch_model.bin", lambda file: torch.save(weights(), file))
    with pytest.raises(InputError, match="--embedding_model is test_resnet.r160_in1k, which can't be loaded"):
        load_encoder("test_resnet.r160_in1k")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("resnet18.a1_in1k", r"can't be loaded \(LocalEntryNotFoundError"),
        ("resnet18.nope", r"can't be loaded \(RuntimeError: Invalid pretrained tag"),
        ("runs/missing", "is neither a folder nor a model that timm knows"),
        ("random:nope", "is neither a folder nor a model that timm knows"),
        ("hf-hub:someone/model", "is neither a folder nor a model that timm knows"),
    ],
)
def test_encoders_that_are_not_there(hub, name, problem):
    with pytest.raises(InputError, match=problem) as error:
        load_encoder(name)
    assert str(error.value).startswith(f"--embedding_model is {name}, ") and "\n" not in str(error.value)
    assert str(error.value).endswith("or random:resnet18, which is untrained and weaker")


def test_random_weights_are_always_the_same():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = load_encoder("random:test_vit")
    assert torch.equal(torch.get_rng_state(), state) and not first.trained
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    vectors = embed(first, images)
    assert vectors.shape == (3, 64) and vectors.dtype == np.float64 and vectors.std(0).min() > 0
    np.testing.assert_array_equal(embed(load_encoder("random:test_vit"), images), vectors)


def test_transformers_look_at_no_more_than_224_pixels():
    encoder = load_encoder("random:vit_tiny_patch16_384")
    assert encoder.side == 224
    assert embed(encoder, np.zeros((1, 8, 8, 3), dtype=np.uint8)).shape == (1, 192)


class Means(torch.nn.Module):
    """Mean of each channel of the upper half, and of the lower one."""

    def forward(self, images):
        assert images.shape[-2:] == (16, 16)
        return torch.cat([half.mean((2, 3)) for half in images.chunk(2, dim=2)], dim=1)


def test_images_are_resized_and_normalized():
    images = np.zeros((5, 8, 8, 3), dtype=np.uint8)
    images[:4, :4] = (255, 51, 0)  # upper half; the last image is black
    encoder = Encoder(Means(), 16, (0.5, 0, 0), (0.5, 2, 1), trained=True)
    expected = [1, 0.1, 0, -1, 0, 0]  # (1 - 0.5) / 0.5, 0.2 / 2, 0; black: -0.5 / 0.5
    np.testing.assert_allclose(embed(encoder, images, batch_size=2)[:4], [expected] * 4, atol=0.06)
    np.testing.assert_allclose(embed(encoder, images, batch_size=2)[4], [-1, 0, 0] * 2, atol=1e-6)


def test_principal_components_weigh_both_sets_alike():
    """Variances of the two sets are 4 and 0 along the first axis, 0 and 1 along the third, whatever their numbers."""
    real = np.array([[2.0, 7, 0], [-2, 7, 0]])
    generated = np.array([[0.0, 7, 1], [0, 7, -1]] * 50)
    real_places, generated_places, variance = principal_components(real, generated)
    np.testing.assert_allclose(real_places, [[2, 0], [-2, 0]], atol=1e-9)
    np.testing.assert_allclose(generated_places, [[0, 1], [0, -1]] * 50, atol=1e-9)
    np.testing.assert_allclose(variance, [0.8, 0.2])
