"""`--init_from` and `--freeze` of `train_paired.py` and `train_sr.py`, in this process."""

import logging
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from testing_utils import runs
from testing_utils.runs import same, weights

from synthset.errors import InputError

FLAGS = {
    **{"variant": "concat", "skip_fusion": "scale_u", "num_validation_images": 1, "num_divergence_images": 0},
    **{"report_to": [], "max_train_steps": 1, "checkpointing_steps": 1, "use_ema": False, "learning_rate": 1e-9},
}


def train(data, folder, script="train_paired.py", **changes):
    module = runs.load_script(script)
    cls = module.PairedArguments if script == "train_paired.py" else module.SRArguments
    flags = {**runs.TINY, **FLAGS, **changes, "dataset": str(data), "output_dir": str(folder)}
    module.main(cls(**flags))
    return weights(folder)


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """A model, and its weights, trained with another seed than the others here."""
    folder = tmp_path_factory.mktemp("base") / "model"
    return folder, train(data, folder, seed=5)


def near(a, b, names):
    return all(torch.allclose(a[name], b[name], atol=1e-6) for name in names)


def test_a_run_begins_with_the_weights_of_another(base, data, tmp_path, caplog):
    """The steps here change them by nothing that is seen; the card names the model."""
    folder, theirs = base
    with caplog.at_level(logging.INFO):
        mine = train(data, tmp_path / "run", init_from=str(folder), resolution=32, joint_share=0.5)
    assert near(mine, theirs, theirs)
    assert mine.keys() - theirs.keys() == {
        "other_time_embedding.linear_1.weight",
        "other_time_embedding.linear_2.weight",
    }
    assert "sample_size: 16 there, 32 here" in caplog.text and "mask_timestep: False there, True here" in caplog.text
    assert "other_time_embedding: 1,280 parameters begin anew" in caplog.text
    assert not near(train(data, tmp_path / "anew"), theirs, theirs)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "from the weights of `model`" in card and ModelCard(card).data.base_model is None  # which are not on the Hub


def test_a_resumed_run_keeps_its_own_weights_and_knows_its_model(base, data, tmp_path):
    flags = {"learning_rate": 1e-2, "init_from": str(base[0])}
    straight = train(data, tmp_path / "straight", max_train_steps=2, **flags)
    shutil.copytree(base[0], tmp_path / "moved")
    train(data, tmp_path / "resumed", **flags)
    moved = flags | {"init_from": str(tmp_path / "moved")}
    assert same(straight, train(data, tmp_path / "resumed", max_train_steps=2, **moved))
    train(data, tmp_path / "other", seed=6)
    with pytest.raises(InputError, match="init_from sha256 .*another --output_dir"):
        train(data, tmp_path / "resumed", max_train_steps=3, init_from=str(tmp_path / "other"), new_leg=True)


def test_a_condition_begins_with_zeros(base, data, tmp_path):
    """Super-resolution from a model of pairs: the new inputs of a block's first convolution are zero."""
    theirs = base[1]
    mine = train(data, tmp_path / "sr", "train_sr.py", init_from=str(base[0]), patch_size=1)
    name = "down_blocks.0.0.resnets.0.conv1.weight"
    assert mine[name].shape[1] == theirs[name].shape[1] + 4
    assert torch.allclose(mine[name][:, :-4], theirs[name], atol=1e-6) and mine[name][:, -4:].abs().max() < 1e-6


def test_frozen_parts_stay_as_they_are(base, data, tmp_path):
    folder, theirs = base
    mine = train(data, tmp_path / "run", init_from=str(folder), freeze=["encoder"], learning_rate=1e-2)
    kept = {name for name in theirs if torch.equal(mine[name], theirs[name])}
    encoder = {name for name in theirs if name.startswith(("conv_in.", "down_"))}
    assert encoder <= kept and not any(name.startswith(("up_", "mid_", "time_")) for name in kept)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"variant": "two_encoder"}, r"give its own: --variant concat --block_out_channels 8 16$"),
        ({"block_out_channels": [16, 32]}, r"of which .* fit .*; give its own: --block_out_channels 8 16$"),
        ({"prediction_type": "sample"}, "was trained with --prediction_type epsilon, and --prediction_type is sample"),
        ({"init_from": "no/such/model"}, "--init_from is no/such/model, which can't be loaded"),
        ({"freeze": ["encoder", "bottleneck", "decoder"]}, "which leaves nothing to train"),
        ({"init_from": None, "freeze": ["encoder"]}, "--freeze is .*means nothing without --init_from"),
    ],
)
def test_refuses(base, data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train(data, tmp_path / "run", **{"init_from": str(base[0]), **changes})
    assert not list(tmp_path.glob("run/checkpoint*"))
