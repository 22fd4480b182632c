"""HTML report that compares a generated set of pairs with a real one."""

from PIL import Image

from ..evaluation.comparison import MIN_PHOTOS
from .page import Section, number, render_html


def few_photos(numbers: dict) -> list[str]:
    """Warns about sets that are too small for reliable numbers."""
    photos = {name: numbers[name]["photos"] for name in ("real", "generated")}
    few = min(photos.values())
    if few < MIN_PHOTOS:
        return [
            f"With {photos['real']} real and {photos['generated']} generated photos, the measures on embeddings are "
            f"not meaningful and were not computed; they need {MIN_PHOTOS} of each."
        ]
    if few >= 100:
        return []
    return [
        f"There are only {few} {'real' if few == photos['real'] else 'generated'} photos. The standard error of shares "
        f"such as precision, recall and coverage is up to ± {0.5 / few**0.5:.2f}; smaller differences are not "
        "significant."
    ]


def distance_section(numbers: dict, encoder: str) -> Section:
    """Builds the section on KID, precision, recall, density, coverage and color divergence, of the generated set and of
    one half of the real photos against the other."""
    rows = [["measure", "generated vs. real", "real vs. real (halves)", "good value"]]
    columns = [numbers["generated_to_real"], numbers["half_to_half"]]

    def kernel_distance(column: dict) -> str:
        value, error = (column[name] for name in ("kernel_distance", "kernel_distance_error"))
        return number(value) if value is None else f"{number(value, 1000)} ± {number(error, 1000)}"

    rows.append(
        [
            "color divergence, bits",
            *(number(c["color_divergence"]) for c in columns),
            "near 0 (1: no color in common)",
        ]
    )
    rows.append(["KID × 1000", *map(kernel_distance, columns), "near 0: within two standard errors"])
    for name, good in (
        ("precision", "near 1: generated images are similar to real ones"),
        ("recall", "near 1: real images are similar to generated ones"),
        ("density", "near 1: generated images are as dense as real ones"),
        ("coverage", "near 0.97: almost every real image has a similar generated one"),
    ):
        rows.append([name, *(number(column[name]) for column in columns), good])
    counts = [f"{c['balanced']} and {c['balanced']}" for c in columns]
    rows.append(["images compared (except for KID)", *counts, ""])
    text = (
        f"KID, precision, recall, density and coverage are computed on embeddings of the encoder {encoder}; they are "
        "comparable only with reports of the same encoder and resolution. Crops of one photo are never compared with "
        "each other."
    )
    if columns[0]["kernel_distance"] is not None:
        text += (
            f" KID uses all {numbers['generated']['images']} generated and {numbers['real']['images']} real "
            "images; ± is a conservative standard error from disjoint blocks of photos. Embeddings are scaled so that "
            "the mean square of the real ones is 1. The other measures depend on the number of images, so both columns "
            "use as many images as half of the real set has."
        )
    return Section(
        "Distance in numbers",
        good="the first column is close to the second, which shows the values that other real photos would get.",
        text=[text],
        tables=[rows],
        warnings=few_photos(numbers),
    )


def content_section(numbers: dict) -> Section:
    """Builds the section on the objects in the masks."""
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
        good="the histograms coincide and the columns agree. Many more or smaller objects indicate fragmented masks; a "
        "smaller difference between images indicates low diversity.",
        text=["An object is a connected component of the mask; overlapping plants count as one object."],
        tables=[rows],
        figures={"objects": "Histograms of the share of object pixels, the number of objects and their sizes"},
    )


def copies_section(numbers: dict, complete: bool) -> Section:
    """Builds the section on memorization."""
    copies, warnings = numbers["copies"], []
    if not complete:
        warnings.append(
            "Parts of the real photos were not searched, so copies of them are not found; raise --num_samples."
        )
    if not copies["finds_fresh"]:
        warnings.append(
            "This search would miss shifted or mirrored copies: even new crops of the searched photos are about as far "
            "from them as other photos are. Only near-exact copies would be found. A trained encoder "
            "or a larger --num_samples may see more."
        )
    return Section(
        "Copies of the training photos",
        good="the histogram of generated images coincides with that of the real photos, clearly to the right of the "
        "gray one, and the closest pairs below show different plants.",
        text=[
            "For each generated image, the nearest real image was searched among "
            f"{numbers['real']['images']} crops of {numbers['real']['photos']} photos. The ratio is its distance, "
            "divided by the median distance from a real image to the nearest one of another photo: 0 is an exact copy, "
            "1 is as different as another real photo, and below 1 is closer to the training photos than they are to "
            "each other. The ratio of a shifted or mirrored copy is above 0: new crops of the same photos have a "
            f"median of {number(copies['fresh_ratio'])}.",
            f"The median ratio of the generated images is {number(copies['ratio'])}, the lowest is "
            f"{number(copies['closest_ratio'])}, and {number(copies['closer_than_fresh'], 100, ' %')} of them are "
            "below the median of new crops. A low ratio is a reason to look, not a proof: images with little detail "
            "are close to each other without being copies, and no known measure distinguishes the two (Stein et al. "
            "2023).",
        ],
        figures={
            "copies": "Distance of each image to the nearest real image",
            "closest": "The generated images closest to a real image, each next to it, with their ratios",
        },
        warnings=warnings,
    )


def downstream_section(results: dict[str, dict[str, str]]) -> Section:
    """Builds the table of segmenter scores, name -> column -> text, all with the same columns."""
    header = ["segmenter", *next(iter(results.values()))]
    return Section(
        "Segmenters trained on it",
        good="a segmenter trained on generated pairs is close to one trained on real pairs, and one trained on both is "
        "better.",
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
    """Formats the results on distances, copies and segmenters as Markdown for the card of the generated dataset.
    Arguments as in `render_page`."""
    lines = [
        f"{numbers['generated']['images']} of these pairs against {numbers['real']['images']} real ones ({real}), "
        f"squares of {crop_size} pixels cut from {numbers['real']['photos']} photos, at {resolution} × {resolution} "
        f"pixels (`synthset report`){'' if trained else ', with an encoder with random weights'}."
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
    """Renders the page as HTML with embedded figures.

    Args:
        numbers: `numbers` of a `Comparison`.
        figures: result of `draw_figures`.
        real: name of the real set.
        generated: name of the generated set.
        encoder: name of the encoder.
        trained: false for random weights, which adds a warning.
        crop_size: side in pixels of the real crops.
        resolution: side in pixels of the compared images.
        complete: true if the real images cover all real photos.
        results: scores of segmenters, name -> column -> text, all with the same columns; may be empty.
        settings: flags of the command.
    """
    variance = sum(numbers["variance"])
    sections = [
        Section(
            "Images",
            good="generated and real images are indistinguishable, and the red overlay covers the objects.",
            text=["Random pairs of each set: image, mask, and overlay."],
            figures={"generated": "Generated", "real": "Real"},
        ),
        *([downstream_section(results)] if results else []),
        distance_section(numbers, encoder),
        Section(
            "Colors",
            good="the histograms coincide.",
            figures={"colors": "Histograms of red, green and blue values"},
        ),
        content_section(numbers),
        Section(
            "Map of the images",
            good="generated and real points cover the same area.",
            text=[
                "Each point is an image; the encoder maps similar images to nearby points. The map shows the two "
                f"principal components, {variance:.0%} of the variance."
            ],
            figures={"embeddings": "Principal components of the embeddings, as points and as thumbnails"},
        ),
        copies_section(numbers, complete),
    ]
    introduction = [
        "Each pair is an image and a mask of its object pixels. This page compares "
        f"{numbers['generated']['images']} generated pairs ({generated}) with {numbers['real']['images']} real "
        f"pairs ({real}), squares of {crop_size} pixels cut from {numbers['real']['photos']} photos, all at "
        f"{resolution} × {resolution} pixels. For comparison, the real photos were split at random into halves, and "
        "one half was compared with the other: no generator can be expected to do better.",
    ]
    warnings = []
    if not trained:
        warnings = [
            f"UNTRAINED ENCODER: the distances, the map and the nearest images on this page come from {encoder}, a "
            "network with random weights, which represents colors and textures but hardly shapes. It is a valid but "
            "weaker basis for comparing sets of images than a trained encoder (Naeem et al. 2020; Lee et al. 2022)."
        ]
    return render_html(
        f"Generated and real pairs compared: {generated}",
        introduction,
        warnings,
        sections,
        figures,
        f"synthset report {settings}",
    )
