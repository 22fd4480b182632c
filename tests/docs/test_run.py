"""The commands and the code of README and guides, run in their order, at tiny size, from an empty folder with the wheel
installed. What is left out needs hours, several GPUs or the Hub: `test_parse.py` looks at its flags."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from testing_utils.documentation import ROOT, arguments, blocks, commands
from testing_utils.pairs import random_pairs, write_orthomosaic, write_raw_folder

pytestmark = pytest.mark.slow

PAGES = "README docs/data docs/train docs/enlarge docs/generate docs/directions docs/evaluate".split()
LEFT_OUT = re.compile(r"ORGANIZATION/|--launch|research table")
NETWORK = {
    "resolution": "16",
    "crop_size": "32",
    "block_out_channels": "[8,16]",
    "layers_per_block": "1",
    "attention_head_dim": "8",
    "batch_size": "32",  # of validation as well, which takes most of the time
    "validation_steps": "0",
    "num_validation_images": "2",
    "num_divergence_images": "2",
    "validation_num_inference_steps": "2",
    "max_train_steps": "2",
    "lr_warmup_steps": "0",
    "mixed_precision": "no",
    "report_to": "none",
}
SHAPE = ("block_out_channels", "layers_per_block", "attention_head_dim")
SEGMENTER = {"encoder_name": "resnet18", "resolution": "32", "crop_size": "32", "batch_size": "4"}
TINY = {
    "quickstart": {"max_train_steps": "2", "num_samples": "32", "segmenter_steps": "2"},
    "train": NETWORK,
    "train-sr": NETWORK | {"resolution": "32"},
    "generate": {"num_samples": "6", "num_inference_steps": "2", "batch_size": "3"},
    "segment": SEGMENTER | {"max_train_steps": "2"},
    "paste": {"num_samples": "4", "resolution": "16", "crop_size": "32", "num_workers": "0", "min_area": "1"},
    "report": {"embedding_model": "random:test_resnet", "num_samples": "6"},
    "label": {"min_confidence": "0"},
    "render": {"num_samples": "2", "resolution": "32"},
    "select": {
        "checkpoints": "final",
        "num_divergence_images": "2",
        "probe_num_samples": "4",
        "probe_generation": "--num_inference_steps 2",
        "probe_segmentation": "--encoder_name resnet18 --resolution 32 --max_train_steps 2 --batch_size 4",
    },
    "compare-sr": {"num_samples": "2", "samplers": "[ddim-2]"},
}


def tiny(words):
    """A command with the flags of `TINY` in place of its own of the same names."""
    command = words[1] if words[1] != "research" else words[2]
    changes = dict(TINY.get(command, {}))
    if "practitioner" in words:  # whose weights are of its encoder
        del changes["encoder_name"]
    if "--init_from" in words:  # whose shape the network has
        changes = {name: value for name, value in changes.items() if name not in SHAPE}
    if "--sr_model" in words:
        changes["sr_num_inference_steps"] = "2"
    kept, skip = [], False
    for word in words:
        if word.startswith("--"):
            skip = word[2:] in changes
        if not skip:
            kept.append(word)
    return kept + [part for name, value in changes.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def user(installed, tmp_path_factory):
    """A function that runs a page in a folder with nothing but photos, and leaves out what it has run already."""
    folder = tmp_path_factory.mktemp("user")
    photos = write_raw_folder(folder / "photos", random_pairs(8, size=(40, 32)))
    shutil.copytree(photos / "masks", photos / "masks_checked")
    write_raw_folder(folder / "test_photos", random_pairs(3, size=(40, 32), seed=1))
    shutil.copytree(folder / "test_photos" / "images", folder / "new_photos")
    rng = np.random.default_rng(0)
    for place, bands in (("images", 5), ("masks", 1)):
        (folder / "orthomosaics" / place).mkdir(parents=True)
        for name in ("north.tif", "south.tif"):
            pixels = rng.integers(0, 256 if bands > 1 else 2, (bands, 64, 80), dtype=np.uint8)
            write_orthomosaic(folder / "orthomosaics" / place / name, pixels)
    outline = [[2, 2, 20, 2, 20, 20]]
    export = {
        "images": [{"id": i, "file_name": f"{i:03d}.png", "width": 40, "height": 32} for i in range(8)],
        "categories": [{"id": 1, "name": "carrot"}, {"id": 2, "name": "weed"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "segmentation": outline, "iscrowd": 0} for i in range(8)
        ],
    }
    shutil.copytree(photos / "images", folder / "coco_export")
    (folder / "coco_export" / "annotations.json").write_text(json.dumps(export))
    done = set()

    def run(words):
        result = subprocess.run(
            words, cwd=folder, env=installed, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{words}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"

    def work_through(page):
        code = ""  # a page is one session of Python
        for block in blocks(ROOT / f"{page}.md", "bash", "python"):
            if block.language == "python":
                text = re.sub(r"num_inference_steps=\d+", "num_inference_steps=2", block.text)
                code += text if "ORGANIZATION/" not in text else ""
                continue
            for words in commands(block):
                line = " ".join(words)
                if arguments(words) is None or line in done or LEFT_OUT.search(line):
                    continue
                run(tiny(words))
                done.add(line)
        if code:
            run(["python", "-c", code])

    work_through("README")
    work_through.folder = folder
    return work_through


def test_readme_leads_to_a_tested_segmenter_and_labeled_photos(user):
    made = "data/field/overlay.png outputs/field/model_index.json generated/field/preview.png"
    for name in [*made.split(), "outputs/segmenter/results.json", "data/labeled/README.md"]:
        assert (user.folder / name).is_file(), name


@pytest.mark.parametrize("page", PAGES[1:])
def test_the_commands_of_a_guide_run(user, page):
    user(page)
