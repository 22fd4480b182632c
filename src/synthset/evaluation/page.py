"""The page that shows a generated set of pairs beside a real one to people who were not there."""

import base64
import io
from dataclasses import dataclass, field

import jinja2
from PIL import Image

from .comparison import MIN_PHOTOS

TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1060px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.7em; line-height: 1.2; } h2 { font-size: 1.25em; margin: 2.2em 0 .4em; }
figure { margin: 1em 0; } figcaption { font-weight: 600; } img { max-width: 100%; }
table { border-collapse: collapse; margin: 1em 0; } caption { text-align: left; font-weight: 600; }
th, td { text-align: left; padding: .25em 1em .25em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
.good { border-left: 4px solid #2a8a4a; padding-left: .8em; }
.warning { border-left: 4px solid #c33; padding: .4em .8em; background: #fdf0ee; }
.settings { color: #555; font-size: .85em; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for paragraph in introduction %}
<p>{{ paragraph }}</p>
{% endfor %}
{% for warning in warnings %}
<p class="warning">{{ warning }}</p>
{% endfor %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% for paragraph in section.text %}
<p>{{ paragraph }}</p>
{% endfor %}
{% for table in section.tables %}
<table>
<tr>{% for cell in table[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in table[1:] %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endfor %}
{% for name, caption in section.figures.items() %}
<figure>
<figcaption>{{ caption }}</figcaption>
<img alt="{{ caption }}" src="data:image/png;base64,{{ png[name] }}">
</figure>
{% endfor %}
{% if section.good %}
<p class="good">Good: {{ section.good }}</p>
{% endif %}
{% for warning in section.warnings %}
<p class="warning">{{ warning }}</p>
{% endfor %}
{% endfor %}
<h2>How this page was made</h2>
<p class="settings">report.py {{ settings }}</p>
</body>
</html>
""")


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        good: one sentence, what good looks like.
        text: paragraphs.
        tables: each a list of rows of cells, the header first.
        figures: name of a figure -> caption.
        warnings: what the reader must not overlook.
    """

    title: str
    good: str = ""
    text: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def number(value: float | int | None, scale: float = 1, unit: str = "") -> str:
    """Three significant digits, or that there is none."""
    return "not computed" if value is None else f"{value * scale:.3g}{unit}"


def few_photos(numbers: dict) -> list[str]:
    """Warnings about sets so small that their numbers say little."""
    photos = {name: numbers[name]["photos"] for name in ("real", "generated")}
    few = min(photos.values())
    if few < MIN_PHOTOS:
        return [
            f"With {photos['real']} real and {photos['generated']} generated photos, the measures on embeddings mean "
            f"nothing and were not computed; they need {MIN_PHOTOS} of each."
        ]
    if few >= 100:
        return []
    return [
        f"These are only {few} {'real' if few == photos['real'] else 'generated'} photos. Others would give other "
        f"numbers: they move shares such as precision, recall and coverage by up to ± {0.5 / few**0.5:.2f} (one "
        "standard error), and smaller differences mean nothing."
    ]


def distance_section(numbers: dict, encoder: str) -> Section:
    """KID, precision, recall, density, coverage and color divergence, of the generated set and of one half of the real
    photos against the other."""
    rows = [["measure", "generated against real", "real half against real half", "good is"]]
    columns = [numbers["generated_to_real"], numbers["half_to_half"]]

    def kernel_distance(column: dict) -> str:
        value, error = (column[name] for name in ("kernel_distance", "kernel_distance_error"))
        return number(value) if value is None else f"{number(value, 1000)} ± {number(error, 1000)}"

    rows.append(
        [
            "difference of colors, bits",
            *(number(c["color_divergence"]) for c in columns),
            "near 0 (1: no color in common)",
        ]
    )
    rows.append(["KID × 1000", *map(kernel_distance, columns), "near 0: within twice its ±"])
    for name, good in (
        ("precision", "near 1: generated images lie among real ones"),
        ("recall", "near 1: real images lie among generated ones"),
        ("density", "near 1: generated images crowd where real ones do"),
        ("coverage", "near 0.97: every real image has a generated one near it"),
    ):
        rows.append([name, *(number(column[name]) for column in columns), good])
    counts = [f"{c['balanced']} and {c['balanced']}" for c in columns]
    rows.append(["images compared (but for KID)", *counts, ""])
    text = (
        f"The measures from KID to coverage see images through an encoder, {encoder}; they depend on it, and compare "
        "only with reports of the same encoder and resolution. Crops of one photo are never compared with each other."
    )
    if columns[0]["kernel_distance"] is not None:
        text += (
            f" KID uses all {numbers['generated']['images']} generated and {numbers['real']['images']} real "
            "images; its ± is the standard error from disjoint blocks of photos, rather too large than too small, "
            "and one factor for all embeddings makes the real ones' mean square 1. The other measures depend on how "
            "many images are compared, so both columns use as many as a half of the real ones has."
        )
    return Section(
        "Distance in numbers",
        good="the first column of numbers is near the second, which shows what other real photos would get.",
        text=[text],
        tables=[rows],
        warnings=few_photos(numbers),
    )


def content_section(numbers: dict) -> Section:
    """Objects in the masks."""
    columns = [numbers["real"], numbers["generated"]]
    rows = [["", "real", "generated"]]
    rows.append(["images", *(str(column["images"]) for column in columns)])
    rows.append(["mean difference between two images, gray levels", *(number(c["difference"]) for c in columns)])
    for name, label, scale, unit in (
        ("coverage", "share of a mask that is object, mean", 100, " %"),
        ("empty", "masks without an object", 100, " %"),
        ("objects", "objects in a mask, mean", 1, ""),
        ("object_size", "size of an object, median, share of the image", 100, " %"),
    ):
        rows.append([label, *(number(column[name], scale, unit) for column in columns)])
    return Section(
        "Objects in the masks",
        good="the outlines coincide and the columns agree; many more or smaller objects mean ragged masks, a smaller "
        "difference between images means that the generator repeats itself.",
        text=["An object is a group of mask pixels that touch; plants whose leaves overlap count as one."],
        tables=[rows],
        figures={"objects": "How much of a mask is object, how many objects there are and how large they are"},
    )


def copies_section(numbers: dict, complete: bool) -> Section:
    """Memorization."""
    copies, warnings = numbers["copies"], []
    if not complete:
        warnings.append(
            "Parts of the real photos were not searched, and copies of those are not found; raise --num_samples."
        )
    if not copies["finds_fresh"]:
        warnings.append(
            "This search would miss shifted or mirrored copies: even fresh crops of the very photos that were searched "
            "are about as far from them as other photos are. Only near-exact copies would stand out. A trained encoder "
            "or a larger --num_samples may see more."
        )
    return Section(
        "Copies of the training photos",
        good="the generated outline lies over that of the real photos, well to the right of the gray one, and the "
        "closest pairs below are visibly different plants.",
        text=[
            "For each generated image, the nearest real one was looked for among "
            f"{numbers['real']['images']} crops of {numbers['real']['photos']} photos. The ratio is that distance, "
            "divided by the median distance from a real image to the nearest one of another photo: 0 is an exact "
            "copy, 1 is as new as another real photo, below 1 is closer to the training photos than they are to each "
            "other. A copy may be shifted or mirrored, and then is not at 0: fresh crops of the same photos have a "
            f"median of {number(copies['fresh_ratio'])}.",
            f"The generated images have a median of {number(copies['ratio'])}, and the closest is at "
            f"{number(copies['closest_ratio'])}; {number(copies['closer_than_fresh'], 100, ' %')} of them are closer "
            "than the median fresh crop. A low ratio is a reason to look, not a proof: plain images are close to "
            "each other without being copies, and no known measure tells the two apart (Stein et al. 2023).",
        ],
        figures={
            "copies": "How far each image is from the nearest real one",
            "closest": "The generated images closest to a real one, each beside it, with their ratios",
        },
        warnings=warnings,
    )


def downstream_section(results: dict[str, dict[str, str]]) -> Section:
    """Scores of segmenters: name -> column -> text, all with the same columns."""
    header = ["segmenter", *next(iter(results.values()))]
    return Section(
        "Segmenters trained on it",
        good="a segmenter trained on generated pairs comes close to one trained on real ones, and both together pass "
        "it; this is what the data is for.",
        text=["Scores on the test images, mean and standard deviation over training runs; 1 is perfect."],
        tables=[[header, *([name, *row.values()] for name, row in results.items())]],
    )


def card_text(
    numbers: dict,
    real: str,
    encoder: str,
    trained: bool,
    crop_size: int,
    resolution: int,
    complete: bool,
    results: dict[str, dict[str, str]],
) -> str:
    """The page's distances, copies and segmenters as Markdown, for the generated dataset's card; arguments as in
    `render_page`."""
    lines = [
        f"{numbers['generated']['images']} of these pairs against {numbers['real']['images']} real ones ({real}), "
        f"squares of {crop_size} pixels cut from {numbers['real']['photos']} photos, at {resolution} × {resolution} "
        f"pixels (`scripts/report.py`){'' if trained else ', seen through an encoder with random weights'}."
    ]
    sections = [distance_section(numbers, encoder), copies_section(numbers, complete)]
    for section in [*([downstream_section(results)] if results else []), *sections]:
        lines += [f"### {section.title}", *section.text, *section.warnings]
        for header, *rows in section.tables:
            lines.append("\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)))
    return "\n\n".join(lines)


def render_page(
    numbers: dict,
    figures: dict[str, Image.Image],
    real: str,
    generated: str,
    encoder: str,
    trained: bool,
    crop_size: int,
    resolution: int,
    complete: bool,
    results: dict[str, dict[str, str]],
    settings: str,
) -> str:
    """The page as HTML, with its figures in it.

    Args:
        numbers: those of a `Comparison`.
        figures: what `draw_figures` drew.
        real, generated: what the sets are called.
        encoder: what the encoder is called.
        trained: false for random weights, which the page then says loudly.
        crop_size: side in pixels of the real crops.
        resolution: side in pixels at which all is compared.
        complete: whether the real images are all of the real photos.
        results: scores of segmenters, name -> column -> text, all with the same columns; may be empty.
        settings: the command line.
    """
    png = {}
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.save(buffer, "PNG")
        png[name] = base64.b64encode(buffer.getvalue()).decode()
    variance = sum(numbers["variance"])
    sections = [
        Section(
            "Images",
            good="you could not say which is which, and the red overlay sits on what the real masks mark.",
            text=["Some of each, drawn by chance: image, mask, and the mask over the image."],
            figures={"generated": "Generated", "real": "Real"},
        ),
        *([downstream_section(results)] if results else []),
        distance_section(numbers, encoder),
        Section(
            "Colors",
            good="the outlines coincide.",
            figures={"colors": "How often each value of red, green and blue occurs"},
        ),
        content_section(numbers),
        Section(
            "Map of the images",
            good="generated points lie everywhere that real ones do, and nowhere else.",
            text=[
                "Each image is a point; the encoder puts similar ones near each other. The map shows the two "
                f"directions in which they differ most, {variance:.0%} of all their variance."
            ],
            figures={"embeddings": "Principal components of the embeddings, as points and as the images themselves"},
        ),
        copies_section(numbers, complete),
    ]
    introduction = [
        "Each pair is a image and a mask that says which pixels are the object. This page compares "
        f"{numbers['generated']['images']} generated pairs ({generated}) with {numbers['real']['images']} real "
        f"pairs ({real}), squares of {crop_size} pixels cut from {numbers['real']['photos']} photos. All are shown and "
        f"measured at {resolution} × {resolution} pixels. Where real is set against real, the photos were dealt into "
        "two halves at random: no generator can be expected to do better.",
    ]
    warnings = []
    if not trained:
        warnings = [
            f"UNTRAINED ENCODER: the distances, the map and the nearest images on this page come from {encoder}, a "
            "network with random weights. It sees colors and textures, hardly shapes. That is a fair basis for "
            "comparing sets of images, but a weaker one than a trained encoder (Naeem et al. 2020; Lee et al. 2022)."
        ]
    return TEMPLATE.render(
        title=f"Generated pairs beside real ones: {generated}",
        introduction=introduction,
        warnings=warnings,
        sections=sections,
        png=png,
        settings=settings,
    )
