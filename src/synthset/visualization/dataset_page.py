"""HTML report on a dataset of pairs that `synthset prepare` made."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from .figures import panels, to_image
from .page import Section, render_html

LISTED = 20  # names of a finding


def plot_sizes(sides: np.ndarray, coverage: np.ndarray, smallest: float) -> Image.Image:
    """Plots histograms of the objects' sides at the resolution to be trained, in pixels, with the side below which they
    vanish, and of the masks' coverage, 0 to 1."""
    figure, (left, right) = panels(2)
    if len(sides):
        left.hist(sides, np.geomspace(max(0.1, sides.min()), max(1.0, sides.max()) * 1.01, 40).tolist())
        left.set_xscale("log")
    left.axvline(smallest, color="tab:red", label=f"{smallest:g} px")
    left.set(xlabel="side of an object, px", ylabel="objects")
    left.legend(frameon=False)
    right.hist(100 * coverage, np.linspace(0, 100, 41).tolist())
    right.set(xlabel="object pixels in a mask, %", ylabel="pairs")
    return to_image(figure)


def findings_table(found: Mapping[str, Sequence[str]], name: str) -> list[list[str]]:
    """Rows of reason, number of files and their names, with a header."""
    rows = [[name, "files", "names"]]
    for reason, names in found.items():
        more = f", and {len(names) - LISTED} more in report.json" if len(names) > LISTED else ""
        rows.append([reason, str(len(names)), ", ".join(names[:LISTED]) + more])
    return rows


def splits_table(splits: Mapping[str, dict]) -> list[list[str]]:
    """Rows of the counts of each split, with a header."""
    rows = [["split", "pairs", "photos", "sizes, px", "smallest side, px", "mask coverage", "empty masks"]]
    for split, found in splits.items():
        sizes = [f"{count} of {size}" for size, count in found["sizes"].items()]
        rows.append(
            [
                split,
                str(found["pairs"]),
                str(found["photos"]),
                ", ".join(sizes[:4]) + (f", and {len(sizes) - 4} other sizes" if len(sizes) > 4 else ""),
                "{side} ({name})".format(**found["smallest_photo"]),
                "{min:.1%} to {max:.1%}, median {median:.1%}".format(**found["mask_coverage"]),
                str(found["empty_masks"]),
            ]
        )
    return rows


def render_dataset_page(
    report: dict,
    figures: dict[str, Image.Image],
    examples: Mapping[str, str],
    name: str,
    command: str,
) -> str:
    """Renders the page as HTML with embedded figures.

    Args:
        report: content of `report.json`.
        figures: "pairs", "sizes" and those of `examples`.
        examples: name of a figure of suspicious pairs -> caption.
        name: of the dataset.
        command: the command line that made it.
    """
    suspicious, trained = report["suspicious"], report["trained_at"]
    sections = [
        Section(
            "Pairs",
            good="the red overlay covers the objects, to their edges, and nothing else.",
            text=["The first training pairs: photo, mask, and overlay."],
            figures={"pairs": "Training pairs"},
        ),
        Section("Counts", tables=[splits_table(report["splits"])]),
        Section(
            "Suspicious",
            good="nothing is listed.",
            tables=[findings_table(suspicious, "likely mistake")] if suspicious else [],
            figures=dict(examples),
        ),
        Section(
            "Sizes of objects",
            good="hardly any object is left of the red line, at which objects vanish.",
            text=[
                f"Side of the square of an object's area, in crops of {trained['crop_size']} pixels at resolution "
                f"{trained['resolution']}. Objects that touch count as one."
            ],
            figures={"sizes": "Sizes of objects, and coverage of masks"},
        ),
    ]
    if classes := report["classes"]:
        rows = [[str(c["value"]), c["name"], f"{c['share']:.2%}", "yes" if c["object"] else ""] for c in classes]
        text = ["The column `labels` keeps the label map; the mask holds the classes that are the object."]
        table = [["value", "class", "pixels", "in the mask"], *rows]
        sections.append(Section("Classes", text=text, tables=[table]))
    handled = [
        findings_table(report[kind], title)
        for kind, title in (("repaired", "changed while reading"), ("skipped", "not read"))
        if report[kind]
    ]
    if handled:
        sections.append(Section("Changed and skipped files", tables=handled))
    total = sum(found["pairs"] for found in report["splits"].values())
    introduction = [
        f"{total} pairs of {report['distinct_photos']} distinct photos, read as {report['format']}. The same findings "
        "are in report.json."
    ]
    warnings = [f"{sum(map(len, suspicious.values()))} suspicious findings; see below."] if suspicious else []
    return render_html(f"Dataset {name}", introduction, warnings, sections, figures, command)
