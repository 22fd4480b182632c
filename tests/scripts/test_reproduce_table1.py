"""`reproduce_table1.py` and `reproduce_table2.py` at the smallest size there is."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder
from testing_utils.runs import ROOT

from synthset.arguments import SegmentationArguments
from synthset.cli import parse_arguments
from synthset.data import load_pairs, load_train_validation
from synthset.errors import InputError
from synthset.research.tables import Table

TABLE1, TABLE2 = (runpy.run_path(str(ROOT / "scripts" / f"reproduce_table{n}.py")) for n in (1, 2))
MODEL = (
    "--block_out_channels [8,16] --layers_per_block 1 --attention_head_dim 8 --batch_size 4 --lr_warmup_steps 0 "
    "--num_validation_images 2 --num_divergence_images 0 --validation_num_inference_steps 2 --max_train_steps 2"
)
TABLE = {"dataset": "train", "test_dataset": "test", "output_dir": "table"}
TINY = {
    "resolution": 16,
    "crop_size": 24,
    "num_samples": 8,
    "training": f"--config scripts/recipes/fast.yaml {MODEL}",
    "generation": "--scheduler dpmsolver++ --num_inference_steps 2",
    "segmentation": "--encoder_name resnet18 --max_train_steps 2 --batch_size 4",
    "seeds": [0],
}


def reproduce(tmp_path, *flags):
    command = [sys.executable, ROOT / "scripts" / "reproduce_table1.py", "--output_dir", tmp_path / "table", *flags]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


@pytest.mark.slow
def test_cells_are_the_segmenters_scores(tmp_path):
    for name, count, seed in (("train", 6, 0), ("test", 3, 1), ("more", 4, 2)):
        write_raw_folder(tmp_path / name, random_pairs(count, seed=seed))
    flags = ["--dataset", tmp_path / "train", "--test_dataset", tmp_path / "test", "--rows", "[copy_paste,real]"]
    flags += ["--finetune", tmp_path / "more", "--launch", ROOT / "accelerate_configs" / "multi_cpu.yaml"]
    flags += ["--resolution", 16, "--crop_size", 24, "--num_samples", 8, "--copy_paste=--min_area 1"]
    flags += ["--segmentation=--encoder_name resnet18 --max_train_steps 2 --batch_size 4", "--seeds", "[0]"]
    result = reproduce(tmp_path, *flags)
    assert result.returncode == 0, result.stderr
    header, _, pasted, real = (tmp_path / "table" / "table1.md").read_text().splitlines()
    assert header.count("Dice") == header.count("IoU") == 4
    cells = [cell.strip() for cell in pasted.strip("|").split("|")]
    results = {
        way: json.loads((tmp_path / "table" / "copy_paste" / way / "results.json").read_text())
        for way in ("finetuned", "mixed")
    }
    stages = results["finetuned"]["seeds"][0]["stages"]
    assert [stage["stage"].split()[0] for stage in stages] == ["--dataset", "--finetune", "--finetune"]
    columns = [*stages, results["mixed"]]
    assert cells[1:] == [f"{scores[name]:.3f}" for scores in columns for name in ("dice", "iou")]
    # pasting, and real pairs alone, do without the pairs that a generator is validated on
    trained_on, _ = load_train_validation(str(tmp_path / "train"), None, None, 0.2, seed=0)
    folder = tmp_path / "table" / "real" / "real"
    settings = json.loads((folder / "settings.json").read_text())
    assert len(trained_on) == 4 and same_pairs(load_pairs(*settings["dataset"]), trained_on)
    pasted_from = json.loads((tmp_path / "table" / "copy_paste" / "generated" / "copy_paste.json").read_text())
    assert [pasted_from["dataset"]] == settings["dataset"]
    assert json.loads((folder / "settings.json").read_text())["processes"] == 2
    results = json.loads((folder / "results.json").read_text())
    first, last = ([f"{stage[name]:.3f}" for name in ("dice", "iou")] for stage in results["seeds"][0]["stages"])
    expected = ["real pairs only", *first, "", "", *last, "", ""]
    assert [cell.strip() for cell in real.strip().strip("|").split("|")] == expected


@pytest.mark.slow
def test_generator_and_enlarged_pairs(tmp_path, monkeypatch):
    """From another folder than the repository's root. Table 2 takes the generator of table 1."""
    for name, count, seed in (("train", 6, 0), ("test", 3, 1)):
        write_raw_folder(tmp_path / name, random_pairs(count, seed=seed))
    monkeypatch.chdir(tmp_path)
    row = {"rows": ["concat"], "mixed": []}
    TABLE1["main"](TABLE1["Table1Arguments"](**TABLE, **TINY, **row))
    model, data = Path("table/concat/model"), Path("table/data")
    assert yaml.safe_load((model / "arguments.yaml").read_text())["dataset"] == str(data)
    train, validation = load_train_validation("train", None, None, 0.2, seed=0)
    assert same_pairs(load_pairs(str(data)), train) and same_pairs(load_pairs(str(data), "validation"), validation)
    settings = json.loads(Path("table/concat/finetuned/settings.json").read_text())
    assert settings["finetune"] == [str(data)]

    def files():
        return {path: path.read_bytes() for path in Path("table").rglob("*") if path.is_file()}

    before = files()
    with pytest.raises(InputError, match=f"{model} was made with other settings: --steps None -> 3; .*--remake"):
        TABLE1["main"](TABLE1["Table1Arguments"](**TABLE, **TINY, **row, steps={"concat": 3}))
    assert files() == before

    changes = {"sr_training": f"--config scripts/recipes/sr_fast.yaml {MODEL}", "samplers": ["ddim-2"]}
    TABLE2["main"](TABLE2["Table2Arguments"](**TABLE, **TINY, **changes, tables=["table3"]))
    after = files()
    assert all(after[path] == before[path] for path in before if model in path.parents)
    _, _, line = Path("table/table3.md").read_text().splitlines()
    results = json.loads(Path("table/table3/ddim-2/finetuned/results.json").read_text())
    scores = [f"{stage[name]:.3f}" for stage in results["seeds"][0]["stages"] for name in ("dice", "iou")]
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["2 ddim", *scores]
    generation = json.loads(Path("table/table3/ddim-2/generated/generation.json").read_text())
    assert (generation["seed"], generation["sr_scheduler"], generation["sr_num_inference_steps"]) == (1, "ddim", 2)
    assert load_pairs("table/table3/ddim-2/generated")[0]["image"].size == (32, 32)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The parts of table 1's rows, by row; of a part, its flags by name."""
    monkeypatch.chdir(tmp_path)

    def parts(**changes):
        args = TABLE1["Table1Arguments"](**TABLE, finetune=["more"], **changes)
        return {row: TABLE1["plan_row"](Table(args, TABLE1["SCRIPTS"]), args, row) for row in args.rows}

    return parts


def given(part, *names):
    """The values of these flags of a part."""
    flags = [str(flag) for flag in part.flags]
    return [value for flag, value in zip(flags, flags[1:], strict=False) if flag in names]


def test_all_rows_learn_from_the_same_pairs(plan):
    for parts in plan(sr=True).values():
        made = {str(part.folder) for part in parts}
        sources = {source for part in parts for source in given(part, "--dataset", "--finetune")}
        assert "table/data" in sources and sources <= {"table/data", "more", *made}


def test_enlarged_pairs_come_on_top(plan):
    """What is there without `--sr` stays as it is; the rest has twice the side, and one model of all rows enlarges."""
    plain, both = plan(), plan(sr=True)
    enlarged = {row: [part for part in both[row] if part not in plain[row]] for row in both}
    assert all([part for part in both[row] if part in plain[row]] == plain[row] for row in both)
    for parts, side in ((plain, "64"), (enlarged, "128")):
        assert {size for row in parts.values() for part in row for size in given(part, "--resolution")} == {side}
    for row, parts in enlarged.items():
        drawn = row not in ("copy_paste", "real")
        assert [part.folder for part in parts if part.script.name == "train_sr.py"] == [Path("table/sr")] * drawn
        assert [model for part in parts for model in given(part, "--sr_model")] == ["table/sr"] * drawn
    columns = [
        {name for parts in rows.values() for part in parts for name in part.columns} for rows in (plain, enlarged)
    ]
    assert columns[1] == {f"{name}-sr" for name in columns[0]}


def test_a_practitioners_segmenters(plan):
    """They come on top, learn from the real pairs that the generator learns from, and are chosen on its validation
    pairs."""
    plain, both = plan(mixed=["concat"]), plan(mixed=["concat"], practitioner="--config practitioner --arch fpn")
    added = {row: [part for part in both[row] if part not in plain[row]] for row in both}
    assert {row for row, parts in added.items() if parts} == {"concat", "real"}
    for row, sources in (("real", ["table/data"]), ("concat", ["table/concat/generated", "table/data"])):
        (part,) = added[row]
        assert part.folder == Path(f"table/{row}/practitioner") and part.columns == {"practitioner": 0}
        assert given(part, "--dataset") == sources and not given(part, "--finetune")
        assert given(part, "--validation_dataset", "--validation_split") == ["table/data", "validation"]
        flags = [str(flag) for flag in part.flags]
        args = parse_arguments(SegmentationArguments, [*flags, "--output_dir", "x"])
        assert (args.arch, args.optimizer, args.encoder_name) == ("fpn", "adamw", "tu-tf_efficientnet_lite0")
        assert args.mix == (None if row == "real" else 0.5)


def test_layout_of_a_practitioners_rows(tmp_path):
    cells = {
        "concat": {
            "synthetic dice": "0.1",
            "mixed dice": "0.2",
            "practitioner dice": "0.3",
            "practitioner-sr dice": "0.4",
        },
        "real": {"real dice": "0.5", "practitioner dice": "0.6"},
    }
    TABLE1["write_table"](tmp_path, cells)
    text = (tmp_path / "table1.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "0." in line]
    assert rows == [
        ["concat", "0.1", "", "", "", "0.2", ""],
        ["concat, practitioner", "", "", "", "", "0.3", ""],
        ["real pairs only", "0.5", "", "", "", "", ""],
        ["real pairs only, practitioner", "0.6", "", "", "", "", ""],
        ["concat, practitioner", "", "", "", "", "0.4", ""],
    ]


def test_layout_of_enlarged_pairs(tmp_path):
    cells = {"synthetic dice": "0.1", "synthetic-sr dice": "0.2"}
    TABLE1["write_table"](tmp_path, {"concat": cells, "real": {"real dice": "0.3", "real-sr dice": "0.4"}})
    first, second = (tmp_path / "table1.md").read_text().split("\n\nEnlarged by the super-resolution model:\n\n")
    title, rest = first.split("\n\n")
    assert title == "As generated:" and rest.splitlines()[:2] == second.splitlines()[:2]
    for block, scores in ((rest, ("0.1", "0.3")), (second, ("0.2", "0.4"))):
        starts = [f"| {name} | {score} |" for name, score in zip(("concat", "real pairs only"), scores, strict=True)]
        assert all(map(str.startswith, block.splitlines()[2:], starts))


def test_layout_without_further_fine_tuning(tmp_path):
    """A column stays empty where a row has no such scores; "all fine-tuning" is left out if none has."""
    scores = {"synthetic dice": "0.1", "synthetic iou": "0.2", "finetuned dice": "0.3", "finetuned iou": "0.4"}
    TABLE1["write_table"](tmp_path, {"concat": scores, "real": {"real dice": "0.5", "real iou": "0.6"}})
    header, _, *rows = (tmp_path / "table1.md").read_text().splitlines()
    assert "all fine-tuning" not in header and header.count("|") == 8
    assert rows == ["| concat | 0.1 | 0.2 | 0.3 | 0.4 |  |  |", "| real pairs only | 0.5 | 0.6 |  |  |  |  |"]


def test_unknown_row(capsys):
    with pytest.raises(SystemExit):
        flags = "--dataset=a --test_dataset=b --output_dir=c --rows [gan] --remake"
        parse_arguments(TABLE1["Table1Arguments"], flags.split())
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "--rows has gan" in line and "two_encoder_gan" in line


def test_missing_launch_config(tmp_path):
    args = TABLE1["Table1Arguments"](
        **{**TABLE, "output_dir": str(tmp_path / "table")}, launch=str(tmp_path / "cpu.yaml")
    )
    with pytest.raises(InputError, match="--launch .*cpu.yaml: no such file; .*multi_cpu"):
        TABLE1["main"](args)
    assert not (tmp_path / "table").exists()


@pytest.mark.parametrize(
    ("script", "changes", "message"),
    [
        (TABLE1["Table1Arguments"], {"rows": []}, r"--rows is \[\]"),
        (TABLE1["Table1Arguments"], {"steps": {"real": 3}}, "--steps has real, where no generator is trained"),
        (TABLE1["Table1Arguments"], {"scale_factor": 4}, "--scale_factor is 4, which means nothing without --sr"),
        (TABLE1["Table1Arguments"], {"seeds": [1, 1]}, "--seeds is .*different"),
        (TABLE2["Table2Arguments"], {"samplers": ["ddim"]}, "--samplers has 'ddim'"),
        (TABLE2["Table2Arguments"], {"samplers": []}, "--samplers has ''"),
        (TABLE2["Table2Arguments"], {"samplers": ["ddim-0"]}, "--samplers has 'ddim-0'"),
        (TABLE2["Table2Arguments"], {"tables": ["table1"]}, "--tables has table1"),
    ],
)
def test_bad_flags(script, changes, message):
    with pytest.raises(InputError, match=message):
        script(**TABLE, **changes)
