"""Cards against the Hub's own validators, and what they say."""

import re
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, RepoCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from testing_utils.pairs import random_pairs, same_pairs

from synthset.data import load_pairs, pair_features, write_pairs_shard
from synthset.errors import InputError
from synthset.publishing.cards import (
    THIS_FOLDER,
    add_section,
    card_license,
    hub_card,
    license_header,
    license_of_models,
    license_of_pairs,
    public_name,
    set_section,
    write_dataset_card,
    write_pipeline_card,
    write_segmenter_card,
)

TEMPLATES = Path(__file__).parents[2] / "model_cards"
FEATURES = pair_features(seed="int64", coverage="float32")
ARGUMENTS = {
    **{"dataset": "demo", "variant": "concat", "resolution": 32, "crop_size": 64, "num_train_timesteps": 1000},
    **{"learning_rate": 1e-3, "lr_scheduler": "cosine", "beta_schedule": "linear", "prediction_type": "epsilon"},
    **{"joint_share": 1.0, "independent_share": 0.0},
    **{"use_ema": True, "gan_weight": 0.0, "num_divergence_images": 64, "data_license": None},
}
METRICS = [
    {"step": 10, "loss": 0.5},
    {"step": 20, "validation_loss": 0.25, "divergence": 0.125},
    {"step": 40, "validation_loss": 0.0625, "divergence": 0.5},
]


def pipeline_card(folder, template="paired.md", **changes):
    folder.mkdir(exist_ok=True)
    write_pipeline_card(TEMPLATES / template, folder, {**ARGUMENTS, **changes}, 12345, METRICS, 40, 16)
    return ModelCard.load(folder / "README.md")


def test_a_card_says_what_else_a_network_draws(tmp_path):
    plain, directed = (
        pipeline_card(tmp_path / name, joint_share=joint, independent_share=0.2).text
        for name, joint in (("plain", 1.0), ("directed", 0.5))
    )
    assert "also draws" not in plain and "the same noise" not in plain
    assert "pipeline(images=photo, num_draws=10).votes" in directed
    assert "the same noise in 50% of the pairs, independent noise in\n20%" in directed


def write_shards(folder, rows, split="train"):
    write_pairs_shard(folder / "data" / f"{split}-00000-of-00001.parquet", rows, pair_features())


def test_a_pipelines_card_has_the_numbers_of_its_run(tmp_path):
    (tmp_path / "field" / "previews").mkdir(parents=True)
    for step in (20, 40):
        (tmp_path / "field" / "previews" / f"step-{step:06d}.png").touch()
    card = pipeline_card(tmp_path / "field")
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "field"
    assert {result.metric_type: result.metric_value for result in results} == {
        "validation_loss": 0.0625,
        "divergence": 0.5,
    }
    assert card.data.license == "apache-2.0"  # the demo data's
    assert "12,345 parameters" in card.text and "40 optimizer steps of 16 pairs (640 in all)" in card.text
    assert "| 20 | 0.25000 | 0.1250 |\n| 40 | 0.06250 | 0.5000 |\n" in card.text
    assert "(previews/step-000040.png)" in card.text and "step-000020" not in card.text
    assert "variant: concat" in card.text and "data_license" not in card.text
    assert "discriminator" not in card.text


def test_a_card_has_no_empty_sections(tmp_path):
    for template, more in (("paired.md", {}), ("sr.md", {"scale_factor": 2, "max_noise_level": 0})):
        write_pipeline_card(TEMPLATES / template, tmp_path, {**ARGUMENTS, **more}, 1, [], 4, 1)
        card = ModelCard.load(tmp_path / "README.md")
        assert "model-index" not in card.data.to_dict() and "model_name" not in card.data.to_dict()
        assert "| step |" not in card.text and "![" not in card.text
        assert not re.search(r"^## .*\n+(## |\Z)", card.text, re.MULTILINE)


def test_a_segmenters_card(tmp_path):
    scores = dict.fromkeys(("dice", "iou", "dice_per_image", "iou_per_image", "boundary_f1"), 0.5)
    (tmp_path / "pairs").mkdir()
    source = f"--dataset {tmp_path / 'pairs'}"
    runs = [
        {**scores, "dice": dice, "seed": seed, "n_images": 4, "n_empty": 1}
        | {"stages": [{**scores, "stage": source, "steps": 3, "learning_rate": 0.01}]}
        for seed, dice in ((0, 0.25), (7, 0.75))
    ]
    arguments = {"dataset": [str(tmp_path / "pairs")], "finetune": [], "test_dataset": "alice/field", "arch": "unet"}
    arguments |= {"encoder_name": "resnet18", "encoder_weights": "none", "batch_size": 4, "crop_size": 64}
    arguments |= {"resolution": 32, "ignore_empty": False, "output_dir": str(tmp_path / "runs"), "data_license": "MIT"}
    write_segmenter_card(tmp_path, TEMPLATES / "segmentation.md", runs[0], runs, arguments)
    card = ModelCard.load(tmp_path / "README.md")
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    dice = [result for result in results if result.metric_type == "dice"]
    assert name == "runs-seed-0" and [result.metric_value for result in dice] == [0.25, 0.5]
    assert {result.dataset_type for result in results} == {"alice/field"}
    assert dice[1].metric_args == {"seeds": [0, 7], "standard_deviation": pytest.approx(0.125**0.5)}
    assert card.data.license == "mit" and str(tmp_path) not in card.content
    assert (
        "`--dataset pairs`" in card.text and "[alice/field](https://huggingface.co/datasets/alice/field)" in card.text
    )


def test_a_datasets_card(tmp_path):
    rows = random_pairs(3)
    write_shards(tmp_path, rows[:2])
    write_shards(tmp_path, rows[2:], "validation")
    write_dataset_card(
        tmp_path,
        TEMPLATES / "dataset.md",
        pair_features(),
        {"train": 2, "validation": 1},
        tags=["synthetic"],
        details={"model": str(tmp_path)},
        title="wheat",
        description="Two pairs and one.",
    )
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.task_categories == ["image-segmentation"] and card.data.tags == ["synthset", "synthetic"]
    assert card.data.pretty_name == "wheat" and card.data.size_categories == ["n<1K"]
    info = card.data.dataset_info
    assert [(split["name"], split["num_examples"]) for split in info["splits"]] == [("train", 2), ("validation", 1)]
    assert info["download_size"] == sum(file.stat().st_size for file in (tmp_path / "data").iterdir())
    assert {feature["name"]: feature["dtype"] for feature in info["features"]} == {"image": "image", "mask": "image"}
    assert "license of the source data was not named" in card.text and "license" not in card.data.to_dict()
    assert str(tmp_path) not in card.content and "Every pair is synthetic" in card.text
    loaded = datasets.load_dataset(str(tmp_path))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 2, "validation": 1}
    assert same_pairs(load_pairs(str(tmp_path), "validation"), rows[2:])


@pytest.mark.parametrize(
    "tag, words", [("copy-paste", "a baseline"), ("pseudo-labels", "unchecked predictions of a model")]
)
def test_a_datasets_card_says_what_its_masks_are(tmp_path, tag, words):
    write_dataset_card(
        tmp_path, TEMPLATES / "dataset.md", FEATURES, {"train": 1}, tags=["synthetic", tag][-1:], title="a"
    )
    assert words in (tmp_path / "README.md").read_text()


def test_load_dataset_sees_that_a_folder_was_written_again(tmp_path):
    for seed in range(2):
        rows = random_pairs(2, seed=seed)
        write_shards(tmp_path, rows)
        write_dataset_card(tmp_path, TEMPLATES / "dataset.md", pair_features(), {"train": 2}, title="a")
        loaded = datasets.load_dataset(str(tmp_path), split="train")
        assert np.array_equal(loaded[0]["image"], rows[0]["image"])


@pytest.mark.parametrize("rows, category", [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K")])
def test_card_size_category(tmp_path, rows, category):
    write_dataset_card(tmp_path, TEMPLATES / "dataset.md", FEATURES, {"train": rows - 1, "test": 1}, title="a")
    assert DatasetCard.load(tmp_path / "README.md").data.size_categories == [category]


def test_the_hubs_card_of_a_model(tmp_path):
    pipeline_card(tmp_path / "field")
    card = RepoCard(hub_card(tmp_path / "field", "alice/wheat"))
    assert card.text.lstrip().startswith("# wheat\n") and THIS_FOLDER not in card.text
    assert 'from_pretrained("alice/wheat")' in card.text
    assert model_index_to_eval_results(card.data.to_dict()["model-index"])[0] == "wheat"


def test_the_hubs_card_of_a_dataset_lists_its_files_and_fills_in_the_license(tmp_path):
    write_shards(tmp_path, random_pairs(1), "train")
    write_shards(tmp_path, random_pairs(1), "test")
    write_dataset_card(tmp_path, TEMPLATES / "dataset.md", pair_features(), {"test": 1, "train": 1}, title="a")
    before = (tmp_path / "README.md").read_text()
    card = DatasetCard(hub_card(tmp_path, "alice/wheat", "CC-BY-4.0"))
    files = {file["split"]: file["path"] for file in card.data.configs[0]["data_files"]}
    assert files == {"train": "data/train-*", "test": "data/test-*"}
    assert card.data.pretty_name == "wheat" and card.data.license == "cc-by-4.0"
    assert "`cc-by-4.0`, holds" in card.text and "not named" not in card.text and card.text.count("## License") == 1
    assert (tmp_path / "README.md").read_text() == before


@pytest.mark.parametrize(
    "data_license, header",
    [
        (None, {}),
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        ("MIT", {"license": "mit"}),
        ("Research only", {"license": "other", "license_name": "research-only"}),
        (
            "CWFID terms https://example.org/terms",
            {"license": "other", "license_name": "cwfid-terms", "license_link": "https://example.org/terms"},
        ),
    ],
)
def test_licenses(tmp_path, data_license, header):
    assert license_header(data_license) == header
    card = pipeline_card(tmp_path / "a", dataset=str(tmp_path), data_license=data_license)
    assert {key: value for key, value in card.data.to_dict().items() if key.startswith("license")} == header
    known = card_license(tmp_path / "a")
    assert license_header(known) == header  # what is made from it says the same


def test_a_license_is_inherited_where_all_agree(tmp_path):
    for name, data_license in (("a", "mit"), ("b", "mit"), ("c", "cc0-1.0"), ("d", None)):
        pipeline_card(tmp_path / name, dataset=str(tmp_path), data_license=data_license)
    a, b, c, d = (str(tmp_path / name) for name in "abcd")
    assert license_of_models([a, b]) == "mit"
    assert license_of_models([a, c]) is license_of_models([a, d]) is license_of_models([str(tmp_path)]) is None
    assert license_of_pairs(["demo"]) == "apache-2.0" and license_of_pairs(["demo", a]) is None


def test_a_section_is_added_once_and_replaced(tmp_path):
    pipeline_card(tmp_path)
    add_section(tmp_path, "Compared", "first")
    add_section(tmp_path, "Compared", "second")
    text = (tmp_path / "README.md").read_text()
    assert "first" not in text and "## Compared\n\nsecond\n\n## License\n" in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "apache-2.0"


def test_an_earlier_cards_license_is_found_by_its_british_name():
    card = "# a\n\n## Licence\n\nold\n\n## Citation\n\nx\n"
    assert set_section(card, "License", "new") == "# a\n\n## License\n\nnew\n\n## Citation\n\nx\n"
    assert "## Compared\n\nc\n\n## Licence\n" in set_section(card, "Compared", "c")


def test_no_card_and_a_broken_one(tmp_path):
    with pytest.raises(InputError, match="has no card README.md"):
        hub_card(tmp_path, "alice/wheat")
    (tmp_path / "README.md").write_text("---\na: [\n---\n# Title\n")
    with pytest.raises(InputError, match="its header is not YAML"):
        hub_card(tmp_path, "alice/wheat")


def test_names_for_strangers(tmp_path):
    assert public_name(str(tmp_path)) == tmp_path.name
    assert public_name("alice/field") == "alice/field" and public_name(0.5) == 0.5
