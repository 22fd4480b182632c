"""`report.py` as users run it: what it takes from two datasets, what it writes, what it refuses."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.evaluation.divergence import color_divergence
from synthset.evaluation.fidelity import choose
from synthset.segmentation import build_segmenter

SCRIPT = Path(__file__).parents[2] / "scripts" / "report.py"
FIGURES = ["generated", "real", "colors", "objects", "embeddings", "copies", "closest"]
SCORES = ("dice", "iou", "dice_per_image", "iou_per_image", "boundary_f1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`real`: 20 pairs of 40 x 32 pixels, two squares of 32 each. `generated`: 22 of 32 x 32, the first of which is the
    left square of the fourth real picture."""
    root = tmp_path_factory.mktemp("data")
    real, generated = random_pairs(20), random_pairs(22, size=(32, 32), seed=1)
    generated[0] = {name: picture.crop((0, 0, 32, 32)) for name, picture in real[3].items()}
    write_raw_folder(root / "real", real, masks="plants")
    write_raw_folder(root / "generated", generated)
    return root


def report(data, output_dir, **changes):
    values = {"generated": data / "generated", "dataset": data / "real", "mask_column": "plants"}
    values |= {"output_dir": output_dir, "embedding_model": "random:test_resnet", **changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *(f"--{name}={value}" for name, value in values.items())])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return json.loads((output_dir / "numbers.json").read_text())


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("made") / "report"
    return output_dir, report(data, output_dir)


def test_the_outcome_goes_into_the_card_of_the_generated_dataset(data, made, tmp_path):
    card = data / "generated" / "README.md"
    with pytest.raises(SystemExit):
        report(data, tmp_path / "report", update_card=True)  # there is no card
    card.write_text("---\nlicense: mit\n---\n\n# generated\n\n## License\n\nMIT.\n")
    try:
        for _ in range(2):
            report(data, tmp_path / "report", update_card=True)
        text = card.read_text()
    finally:
        card.unlink()
    copies = made[1]["copies"]
    assert text.count("## Compared with real pairs") == 1 and text.endswith("## License\n\nMIT.\n")
    assert "22 of these pairs against 40 real ones (`real`)" in text and "random weights" in text
    assert f"the lowest is {copies['closest_ratio']:.3g}, and" in text and str(data) not in text
    assert f"| {made[1]['generated_to_real']['color_divergence']:.3g} |" in text


def test_files(made):
    output_dir, _ = made
    page, files = (output_dir / "report.html").read_text(encoding="utf-8"), [file.name for file in output_dir.iterdir()]
    assert sorted(files) == sorted(["report.html", "numbers.json", *(f"{name}.png" for name in FIGURES)])
    assert page.count("data:image/png;base64,") == len(FIGURES)
    for name in FIGURES:
        with Image.open(output_dir / f"{name}.png") as figure:
            assert figure.mode == "RGB" and figure.width > 1000
    assert "UNTRAINED ENCODER" in page


def test_numbers(made, data):
    _, numbers = made
    assert (numbers["real"]["images"], numbers["real"]["photos"]) == (40, 20)
    assert (numbers["generated"]["images"], numbers["generated"]["photos"]) == (22, 22)

    def load(name, *boxes):
        files = sorted((data / name).iterdir())
        return np.stack([np.asarray(Image.open(file).crop(box)) for file in files for box in boxes])

    squares = (0, 0, 32, 32), (8, 0, 40, 32)
    images, masks = load("real/images", *squares), load("real/plants", *squares)
    generated = load("generated/images", squares[0])
    # halves of ten photos have twenty squares; as many are taken of all
    sets = (images, np.repeat(range(20), 2)), (generated, np.arange(22))
    taken = [pictures[choose(photos, 20)] for pictures, photos in sets]
    assert numbers["generated_to_real"]["color_divergence"] == pytest.approx(color_divergence(*taken))
    assert numbers["generated_to_real"]["balanced"] == numbers["half_to_half"]["balanced"] == 20
    assert numbers["real"]["coverage"] == pytest.approx((masks > 0).mean())
    assert numbers["copies"]["closest_ratio"] == pytest.approx(0, abs=1e-6)


def test_a_copy_stands_beside_its_original(made):
    """Tiles of 128 px, 2 px apart, below a caption of 16."""
    with Image.open(made[0] / "closest.png") as figure:
        copy, original = (np.asarray(figure.crop((x, 18, x + 128, 146))) for x in (2, 132))
    assert copy.std() > 10 and (copy == original).all()


def test_the_same_command_writes_the_same_bytes(made, data, tmp_path):
    report(data, tmp_path / "report")
    for name in ("numbers.json", *(f"{figure}.png" for figure in FIGURES)):
        assert (tmp_path / "report" / name).read_bytes() == (made[0] / name).read_bytes(), name


def test_sizes_and_limits(data, tmp_path, capsys):
    changes = {"crop_size": 20, "generated_crop_size": 16, "resolution": 24, "num_samples": 13, "seed": 3}
    numbers = report(data, tmp_path / "report", **changes)
    for name in ("real", "generated"):  # from as many photos as possible
        assert (numbers[name]["images"], numbers[name]["photos"]) == (13, 13)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "squares of 20 pixels" in page and "24 × 24 pixels" in page and "were not searched" in page


def test_segmenter_as_encoder_and_its_results(data, tmp_path):
    torch.manual_seed(0)
    build_segmenter("unet", "resnet18", None, 32, 32).save_pretrained(tmp_path / "seed-0")
    scores = dict.fromkeys(SCORES, 0.5) | {f"{name}_std": 0.0126 for name in SCORES}
    scores |= {"dice_std": None, "n_images": 17, "n_empty": 0, "seeds": [{}, {}]}
    (tmp_path / "results.json").write_text(json.dumps(scores))
    output_dir = tmp_path / "report"
    report(data, output_dir, embedding_model=tmp_path / "seed-0", results=f"synthetic only={tmp_path / 'results.json'}")
    page = (output_dir / "report.html").read_text(encoding="utf-8")
    assert "UNTRAINED" not in page
    row = [f"<td>{text}</td>" for text in ("synthetic only", "0.500", *["0.500 ± 0.013"] * 4, "2", "17")]
    assert "".join(row) in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 1}, "--num_samples is 1; give 2 or more"),
        ({"resolution": 4}, "--resolution is 4; give 8 or more"),
        ({"crop_size": 33}, "--crop_size 33 is larger than the smallest image side, 32"),
        ({"generated_crop_size": 33}, "--generated_crop_size 33 is larger than the smallest image side, 32"),
        ({"dataset": "./nowhere"}, "nowhere does not exist"),
        ({"generated_split": "test"}, "has no split 'test'"),
        ({"embedding_model": "nope"}, "is nope, which is neither a folder nor a model that timm knows; give "),
        ({"embedding_model": "resnet18.a1_in1k"}, "resnet18.a1_in1k, which can't be loaded (LocalEntryNotFound"),
        ({"results": "results.json"}, "--results is results.json; give NAME=FILE"),
        ({"results": "a=./nowhere.json"}, "--results a=./nowhere.json can't be read (FileNotFoundError"),
    ],
)
def test_bad_arguments(data, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as error:
        report(data, tmp_path / "report", **changes)
    assert error.value.code in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.iterdir())


def test_both_sets_are_of_one_scale(data, tmp_path, capsys):
    """Generated pictures of 32 px that show 20 px of their photos, whole and their halves."""
    record = data / "generated" / "generation.json"
    record.write_text(json.dumps({"crop_size": 20}))
    try:
        for flags, remedy in (({"crop_size": 20, "generated_crop_size": 16}, 10), ({"crop_size": 24}, 20)):
            with pytest.raises(SystemExit):
                report(data, tmp_path / "report", **flags)
            assert f"give --crop_size {remedy}" in capsys.readouterr().err.splitlines()[-1]
        assert not list(tmp_path.iterdir())
        numbers = report(data, tmp_path / "report", generated_crop_size=16)
        assert numbers["generated"]["images"] == 4 * 22
        assert "squares of 10 pixels" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    finally:
        record.unlink()


def test_bad_folders(data, tmp_path, capsys):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "results.json").write_text('{"dice": 0.5}')
    one = write_raw_folder(tmp_path / "one", random_pairs(1))
    for changes, message in (
        ({"embedding_model": tmp_path / "encoder"}, f"is {tmp_path / 'encoder'}, which can't be loaded ("),
        ({"results": f"a={tmp_path / 'results.json'}"}, "can't be read (KeyError: 'seeds'); give a results.json of "),
        ({"generated": one}, "--generated holds 1 images; give 2 or more"),
    ):
        with pytest.raises(SystemExit):
            report(data, tmp_path / "report", **changes)
        assert message in capsys.readouterr().err.splitlines()[-1]
