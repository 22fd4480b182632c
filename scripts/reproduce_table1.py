"""Reproduces SynthSet's table 1 on any dataset: scores of segmenters trained on each kind of synthetic data.

    python scripts/reproduce_table1.py --dataset REAL_TRAIN --test_dataset REAL_TEST --output_dir TABLE

Every row trains a generator on REAL_TRAIN, generates pairs, trains segmenters on them alone and on them with
fine-tuning on REAL_TRAIN, and tests both on REAL_TEST. With `--finetune MORE_REAL`, which may be repeated, fine-tuning
continues there: the paper's "all fine-tuning". For comparison, segmenters are also trained on real pairs only, and on a
mix of real and synthetic pairs. With `--practitioner FLAGS`, such as `--practitioner "--config practitioner"`, the rows
that end in "practitioner" are segmenters with these flags, trained on the real pairs only and on the mix, and chosen on
the validation pairs. With `--sr`, everything is repeated with pairs enlarged by a super-resolution model, as
in the paper, and segmenters of that resolution.

All rows are trained on the same photos, those in `TABLE/data`; its validation pairs are not used for training. TABLE
gets `table1.md` after every row. An interrupted run is continued by the same command. Finished parts are kept; parts
made with other settings are refused, or made again with `--remake`.
"""

from pathlib import Path

from synthset.arguments import Table1Arguments
from synthset.arguments.research import ROWS
from synthset.cli import run
from synthset.output_dir import atomic_path
from synthset.research.tables import Part, Table, markdown

SCRIPTS = Path(__file__).parent
COLUMNS = {
    "synthetic": "synthetic only",
    "finetuned": "+ fine-tuned on real",
    "all": "+ all fine-tuning",
    "mixed": "mixed with real",
}
BLOCKS = {"": "As generated:", "-sr": "Enlarged by the super-resolution model:"}  # ending of folders and columns


def plan_row(table: Table, args: Table1Arguments, row: str) -> list[Part]:
    """Plans the parts of a row."""
    folder, row_flags = table.folder / row, ROWS[row]
    further = [part for source in args.finetune or [] for part in ("--finetune", source)]
    parts = []
    if row_flags is not None:
        parts.append(table.model(folder, row_flags, args.steps.get(row)))
    for block in BLOCKS if args.sr else [""]:
        enlarged = block == "-sr"
        last = {f"all{block}": -1} if further else {}
        if row == "real":
            stages, columns = ["--dataset", table.data, *further], {f"real{block}": 0, **last}
            parts.append(table.segmenter(folder / f"real{block}", stages, columns, enlarged))
            if args.practitioner:
                parts.append(table.practitioner(folder / f"practitioner{block}", ["--dataset", table.data], enlarged))
            continue
        if row_flags is None:
            pairs = table.pasted(folder / f"generated{block}", enlarged)
        else:
            sr_model = table.sr_model() if enlarged else None
            pairs = table.generated(folder / f"generated{block}", parts[0], sr_model)
            parts += [sr_model] if sr_model else []
        stages = ["--dataset", pairs.folder, "--finetune", table.data, *further]
        columns = {f"synthetic{block}": 0, f"finetuned{block}": 1, **last}
        parts += [pairs, table.segmenter(folder / f"finetuned{block}", stages, columns, enlarged, pairs)]
        if row in args.mixed:
            both = ["--dataset", pairs.folder, "--dataset", table.data, "--mix", 0.5]
            parts.append(table.segmenter(folder / f"mixed{block}", both, {f"mixed{block}": 0}, enlarged, pairs))
            if args.practitioner:
                parts.append(table.practitioner(folder / f"practitioner{block}", both, enlarged, pairs))
    return parts


def main(args: Table1Arguments) -> None:
    table = Table(args, SCRIPTS)
    rows = {row: plan_row(table, args, row) for row in args.rows}
    for cells in table.fill(rows, args.finetune or []):
        write_table(table.folder, cells)
    print((table.folder / "table1.md").read_text())
    print(f"Wrote {table.folder / 'table1.md'}.")


def write_table(output_dir: Path, table: dict[str, dict[str, str]]) -> None:
    """Writes the rows so far in the layout of the paper. Scores of real pairs only are in the first column, those of a
    practitioner's segmenter in rows of their own."""
    found = {name.split()[0] for cells in table.values() for name in cells}
    blocks = [block for block in BLOCKS if any(name.endswith(block) for name in found)]
    lines = []
    for block in blocks:
        columns = {way + block: title for way, title in COLUMNS.items() if way + block in found or way != "all"}
        rows = {}
        for row, cells in table.items():
            title, way = ("real pairs only", "synthetic") if row == "real" else (row, "mixed")
            rows[title] = {name.replace("real", "synthetic"): cells[name] for name in cells}
            if f"practitioner{block} dice" in cells:
                rows[f"{title}, practitioner"] = {
                    name.replace("practitioner", way): cells[name] for name in cells if name.startswith("practitioner")
                }
        lines += [*(["", BLOCKS[block], ""] if len(blocks) > 1 else []), *markdown("data", columns, rows)]
    with atomic_path(output_dir / "table1.md") as temporary:
        temporary.write_text("\n".join(lines).lstrip() + "\n")


if __name__ == "__main__":
    run(main, Table1Arguments)
