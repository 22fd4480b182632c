"""Reproduces SynthSet's tables 2 and 3 on any dataset: scores by the number of super-resolution steps.

    python scripts/reproduce_table2.py --dataset REAL_TRAIN --test_dataset REAL_TEST --output_dir TABLE

The generator `concat` and a super-resolution model are trained on REAL_TRAIN. Generated pairs are enlarged with each of
`--samplers`; segmenters are trained on the enlarged pairs alone and with fine-tuning on REAL_TRAIN, and tested on
REAL_TEST. Table 3 is the same for other pairs, generated with seed 1 instead of 0. TABLE gets `table2.md` and
`table3.md`, row by row. An interrupted run is continued by the same command. Finished parts are kept; parts made with
other settings are refused, or made again with `--remake`. In the folder of a table 1, the models of its row `concat`
are reused if the flags are the same (with steps in `--training`).
"""

from pathlib import Path

from synthset.arguments import Table2Arguments
from synthset.arguments.research import TABLE_SEEDS, parse_sampler
from synthset.cli import run
from synthset.output_dir import atomic_path
from synthset.research.tables import Part, Table, markdown

SCRIPTS = Path(__file__).parent
COLUMNS = {"synthetic": "generated only", "finetuned": "fine-tuned on real"}


def plan_row(table: Table, name: str, sampler: str) -> list[Part]:
    """Plans the parts of a row of the table `name`."""
    folder = table.folder / name / sampler
    model, sr_model = table.model(table.folder / "concat", ["--variant", "concat"]), table.sr_model()
    scheduler, steps = parse_sampler(sampler)
    flags = ["--seed", TABLE_SEEDS[name], "--sr_scheduler", scheduler, "--sr_num_inference_steps", steps]
    pairs = table.generated(folder / "generated", model, sr_model, flags)
    stages = ["--dataset", pairs.folder, "--finetune", table.data]
    segmenter = table.segmenter(folder / "finetuned", stages, {"synthetic": 0, "finetuned": 1}, True, pairs)
    return [model, sr_model, pairs, segmenter]


def main(args: Table2Arguments) -> None:
    table = Table(args, SCRIPTS)
    places = [(name, sampler) for name in args.tables for sampler in args.samplers]
    for cells in table.fill({place: plan_row(table, *place) for place in places}):
        name = list(cells)[-1][0]
        rows = {" ".join(reversed(sampler.rsplit("-", 1))): cells[name, sampler] for n, sampler in cells if n == name}
        with atomic_path(table.folder / f"{name}.md") as temporary:
            temporary.write_text("\n".join(markdown("SR steps", COLUMNS, rows)) + "\n")
    for name in args.tables:
        print((table.folder / f"{name}.md").read_text())
    print(f"Wrote {', '.join(f'{name}.md' for name in args.tables)} to {table.folder}.")


if __name__ == "__main__":
    run(main, Table2Arguments)
