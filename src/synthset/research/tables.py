"""Reproduction of the paper's tables from parts: folders that are each written by one script, with a record of their
settings."""

import hashlib
import json
import logging
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..arguments import TableArguments
from ..cli import call
from ..errors import InputError
from ..evaluation.segmentation_metrics import mean_and_std
from ..output_dir import atomic_path, claim_output_dir
from ..resources import find_configuration, find_recipe
from ..segmentation import PairSource, check_test, load_source

logger = logging.getLogger("synthset")

MEASURES = {"dice": "Dice", "iou": "IoU"}
Row = TypeVar("Row", str, tuple[str, str])  # name of a row
ACTIVITIES = {  # script -> name in log lines
    "train_paired": "training",
    "train_sr": "super-resolution training",
    "generate_dataset": "generation",
    "make_copy_paste": "copy-paste",
    "train_segmentation": "segmentation",
}


@dataclass
class Part:
    """A folder that is written by one script, with a record of its settings in `FOLDER.json` beside it.

    Args:
        folder: the script's `--output_dir`.
        script: continues in `folder` where it was stopped.
        flags: the script's other flags.
        settings: what decides the folder's content, by flags of the table; those of the parts that it is made from are
            among them.
        launch: accelerate configuration to launch the script with.
        columns: of a segmenter, the columns of the table that it fills, and after which of its stages.
    """

    folder: Path
    script: Path
    flags: list
    settings: dict
    launch: Path | None = None
    columns: dict[str, int] = field(default_factory=dict)

    def read_record(self) -> dict:
        """Reads the `settings` that the folder was made with, and `finished`; empty if nothing was made."""
        record = self.folder.with_name(f"{self.folder.name}.json")
        # a script that refused its flags left no folder, so the settings may change
        return json.loads(record.read_text()) if record.exists() and self.folder.exists() else {}

    def write_record(self, finished: bool) -> None:
        with atomic_path(self.folder.with_name(f"{self.folder.name}.json")) as temporary:
            temporary.write_text(json.dumps({"settings": self.settings, "finished": finished}, indent=2) + "\n")

    def differing(self) -> str:
        """Lists the settings that differ from those that the folder was made with."""
        old = self.read_record().get("settings", self.settings)
        names = [name for name in {**self.settings, **old} if old.get(name) != self.settings.get(name)]
        return ", ".join(f"--{name} {old.get(name)!r} -> {self.settings.get(name)!r}" for name in names)

    @property
    def finished(self) -> bool:
        """True if nothing is left to do. Always false for segmenters, because the flags may ask for more seeds."""
        return bool(self.read_record().get("finished")) and not self.columns and not self.differing()

    def make(self) -> None:
        """Fills the folder unless it is finished. A folder made with other settings is removed first.

        Raises:
            InputError: the script failed; it has printed its own error.
        """
        if self.differing():
            shutil.rmtree(self.folder)
        if self.finished:
            return
        self.write_record(finished=False)
        call(self.script, *self.flags, "--output_dir", self.folder, launch=self.launch)
        self.write_record(finished=True)

    def read_cells(self) -> dict[str, str]:
        """Reads the cells of a segmenter in the table: text by `COLUMN MEASURE`."""
        seeds = json.loads((self.folder / "results.json").read_text())["seeds"] if self.columns else []
        scores = {column: [seed["stages"][stage] for seed in seeds] for column, stage in self.columns.items()}
        return {f"{column} {measure}": cell(scores[column], measure) for column in scores for measure in MEASURES}


class Table:
    """Builder of the parts that the rows of a table are made of.

    Args:
        args: the flags.
        scripts: folder of the scripts that make the parts.

    Raises (also from the methods that make a `Part`):
        InputError: there is no such accelerate configuration or recipe.
    """

    def __init__(self, args: TableArguments, scripts: Path):
        self.args, self.scripts, self.folder = args, scripts, Path(args.output_dir)
        self.data = self.folder / "data"
        self.columns = [
            part
            for name in ("image_column", "mask_column")
            if getattr(args, name)
            for part in (f"--{name}", getattr(args, name))
        ]
        self.launch, described = None, {"num_processes": 1, "mixed_precision": "no"}
        if args.launch is not None:
            self.launch = find_configuration(args.launch)
            described = yaml.safe_load(self.launch.read_text())
        # the part of it that decides results, for the settings
        decisive = {name: described.get(name) for name in ("num_processes", "mixed_precision")}
        self.processes: dict[str, Any] = {"launch": decisive}

    def read_flags(self, name: str) -> tuple[list[object], dict[str, Any]]:
        """Splits the flag `name` of the table into flags for a script. Also returns them as settings, in which recipes
        are identified by their content."""
        flags = shlex.split(getattr(self.args, name).replace("--config=", "--config "))
        said = list(flags)
        for i in range(1, len(flags)):
            if flags[i - 1] == "--config":
                recipe = find_recipe(flags[i], f"--{name} has --config")
                flags[i] = str(recipe)
                values = json.dumps(yaml.safe_load(recipe.read_text()), sort_keys=True)
                said[i] = f"{recipe.name} (sha256 {hashlib.sha256(values.encode()).hexdigest()[:8]})"
        return list(flags), {name: " ".join(said)}

    def side(self, enlarged: bool) -> int:
        """Returns the side in pixels of generated pairs."""
        return self.args.resolution * (self.args.scale_factor if enlarged else 1)

    def model(self, folder: Path, row_flags: Sequence[str], steps: int | None = None) -> Part:
        """Trains a generator: `training` with the flags and steps of the row."""
        flags, settings = self.read_flags("training")
        steps_flags = [] if steps is None else ["--max_train_steps", steps]
        size = ["--resolution", self.side(False), "--crop_size", self.args.crop_size]
        return Part(
            folder / "model",
            self.scripts / "train_paired.py",
            ["--dataset", self.data, *size, *flags, *row_flags, *steps_flags],
            {**settings, "steps": steps, **self.processes},
            self.launch,
        )

    def sr_model(self) -> Part:
        """Trains the super-resolution model, shared by all rows."""
        flags, settings = self.read_flags("sr_training")
        size = ["--resolution", self.side(True), "--crop_size", self.args.crop_size]
        return Part(
            self.folder / "sr",
            self.scripts / "train_sr.py",
            ["--dataset", self.data, *size, "--scale_factor", self.args.scale_factor, *flags],
            {**settings, "scale_factor": self.args.scale_factor, **self.processes},
            self.launch,
        )

    def generated(self, folder: Path, model: Part, sr_model: Part | None = None, row_flags: Sequence = ()) -> Part:
        """Generates pairs with `model`, enlarged by `sr_model` if given. With the same seed, the pairs before
        super-resolution are the same."""
        flags, settings = self.read_flags("generation")
        settings |= {**model.settings, "num_samples": self.args.num_samples}
        if sr_model is not None:
            sr_flags, sr_settings = self.read_flags("sr_generation")
            flags = [*flags, "--sr_model", sr_model.folder, *sr_flags]
            settings |= {**sr_settings, **sr_model.settings}
        flags = ["--model", model.folder, "--num_samples", self.args.num_samples, *flags, *row_flags]
        return Part(folder, self.scripts / "generate_dataset.py", flags, settings, self.launch)

    def pasted(self, folder: Path, enlarged: bool) -> Part:
        """Makes pairs with pasted objects."""
        flags, settings = self.read_flags("copy_paste")
        size = ["--resolution", self.side(enlarged), "--crop_size", self.args.crop_size]
        flags = ["--dataset", self.data, *size, "--num_samples", self.args.num_samples, *flags]
        settings |= {"num_samples": self.args.num_samples}
        if enlarged:
            settings["scale_factor"] = self.args.scale_factor
        return Part(folder, self.scripts / "make_copy_paste.py", flags, settings)

    def segmenter(
        self,
        folder: Path,
        sources: Sequence,
        columns: dict[str, int],
        enlarged: bool,
        pairs: Part | None = None,
        name: str = "segmentation",
    ) -> Part:
        """Trains segmenters on `sources`, which include `pairs`, with the flags `name` of the table."""
        flags, settings = self.read_flags(name)
        size = ["--resolution", self.side(enlarged), "--crop_size", self.args.crop_size]
        settings |= {**(pairs.settings if pairs else {}), **self.processes}
        if enlarged:
            settings["scale_factor"] = self.args.scale_factor
        flags = [
            *sources,
            "--test_dataset",
            self.args.test_dataset,
            *size,
            *self.columns,
            "--seeds",
            str(self.args.seeds),
            *flags,
        ]
        return Part(folder, self.scripts / "train_segmentation.py", flags, settings, self.launch, columns)

    def practitioner(self, folder: Path, sources: Sequence, enlarged: bool, pairs: Part | None = None) -> Part:
        """Trains segmenters as [`segmenter`] with the flags `practitioner` and chooses their weights on the pairs that
        generators are validated on; the column has the name of the folder."""
        chosen = ["--validation_dataset", self.data, "--validation_split", "validation"]
        return self.segmenter(folder, [*sources, *chosen], {folder.name: 0}, enlarged, pairs, "practitioner")

    def fill(self, rows: dict[Row, list[Part]], finetune: Sequence[str] = ()) -> Iterator[dict[Row, dict[str, str]]]:
        """Makes the parts row by row; yields the cells of all rows so far after each row.

        Args:
            rows: parts of each row, in order of dependency.
            finetune: further real pairs that segmenters learn from.

        Raises:
            InputError: before anything is made, if the data can't be read, a test image is among those trained on,
                `output_dir` holds a table of other pairs, or a part was made with other settings and `remake` is not
                given; later, if a script fails.
        """
        args, columns = self.args, (self.args.image_column, self.args.mask_column)
        train = load_source("--dataset", args.dataset, ["train"], *columns)
        further: list[PairSource] = [load_source("--finetune", source, ["train"], *columns) for source in finetune]
        test = load_source("--test_dataset", args.test_dataset, ["test", "validation", "train"], *columns)
        check_test(test, [train, *further])
        settings: dict[str, Any] = {"dataset": train.sha256, "test_dataset": test.sha256}
        settings |= {
            "finetune": [source.sha256 for source in further],
            "resolution": args.resolution,
            "crop_size": args.crop_size,
        }
        claim_output_dir(self.folder, "settings.json", settings, uncounted=())
        for part in (part for parts in rows.values() for part in parts):
            if not args.remake and part.differing():
                raise InputError(
                    f"{part.folder} was made with other settings: {part.differing()}; give the old values, choose "
                    "another --output_dir, or add --remake to make it again"
                )
        if not self.data.exists():  # written atomically
            call(
                self.scripts / "prepare_dataset.py", "--dataset", args.dataset, "--output_dir", self.data, *self.columns
            )
        table: dict[Row, dict[str, str]] = {}
        for number, (row, parts) in enumerate(rows.items(), start=1):
            for part in parts:
                if not part.finished:
                    name = row if isinstance(row, str) else " ".join(row)
                    logger.info(
                        f"row {number} of {len(rows)}: {name}, {ACTIVITIES.get(part.script.stem, part.script.stem)}"
                    )
                part.make()
                table.setdefault(row, {}).update(part.read_cells())
            yield table


def cell(scores: Sequence[dict], measure: str) -> str:
    """Formats mean and standard deviation of a measure over segmenters; `scores` has one entry per segmenter."""
    values = mean_and_std([{measure: score[measure]} for score in scores])
    spread = values[f"{measure}_std"]
    return f"{values[measure]:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def markdown(corner: str, columns: dict[str, str], rows: dict[str, dict[str, str]]) -> list[str]:
    """Formats a Markdown table as lines: `columns` are titles by name, `rows` cells by `COLUMN MEASURE`; missing cells
    are empty."""
    titles = [f"{title}, {measure}" for title in columns.values() for measure in MEASURES.values()]
    lines = [f"| {corner} | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for row, cells in rows.items():
        values = [cells.get(f"{column} {measure}", "") for column in columns for measure in MEASURES]
        lines.append(f"| {row} | {' | '.join(values)} |")
    return lines
