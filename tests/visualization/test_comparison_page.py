"""The page: it has all in it, says what it must, and looks the same each time."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from synthset.evaluation.comparison import PairSet, compare
from synthset.visualization.comparison_page import render_page
from synthset.visualization.figures import draw_figures


class Page(HTMLParser):
    """`text` of the page, `warnings`, `sources` of what it shows, and the `sections` with what is in them."""

    def __init__(self, html):
        super().__init__()
        self.text, self.warnings, self.sources, self.sections, self.inside = "", [], [], {}, ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.inside = attributes.get("class", tag)
        self.sources += [attributes[name] for name in ("src", "href") if name in attributes]
        if self.inside == "warning":
            self.warnings.append("")
        if self.sections:
            list(self.sections.values())[-1].append(self.inside)

    def handle_data(self, data):
        self.text += data
        if self.inside == "warning":
            self.warnings[-1] += data.strip()
        if self.inside == "h2" and data.strip():
            self.sections[data] = []


def pair_set(count, seed=0, objects=True):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    masks = (rng.random((count, 16, 16)) < 0.1 * objects).astype(np.uint8)
    return PairSet(images, masks, np.arange(count), rng.normal(0, 1, (count, 6)))


FACTS = {
    "real": "photos",
    "generated": "made",
    "encoder": "random:resnet18",
    "trained": True,
    "crop_size": 512,
    "resolution": 128,
    "complete": True,
    "results": {},
    "settings": "--seed=0",
}


def page_of(a, b, **changes):
    comparison = compare(a, b, a.vectors + 1e-3)
    figures = draw_figures(a, b, comparison)
    return render_page(comparison.numbers, figures, **(FACTS | changes)), figures


@pytest.fixture(scope="module")
def made():
    html, figures = page_of(pair_set(39), pair_set(120, seed=1))
    return html, figures, Page(html)


def test_the_page_has_its_figures_in_it(made):
    _, figures, page = made
    assert list(figures) == ["generated", "real", "colors", "objects", "embeddings", "copies", "closest"]
    shown = [Image.open(io.BytesIO(base64.b64decode(s.removeprefix("data:image/png;base64,")))) for s in page.sources]
    expected = [np.asarray(picture).tobytes() for picture in figures.values()]
    assert sorted(np.asarray(picture).tobytes() for picture in shown) == sorted(expected)


def test_every_section_says_what_good_looks_like(made):
    sections = {title: parts for title, parts in made[2].sections.items() if title != "How this page was made"}
    assert len(sections) == 6 and all(parts.count("good") == 1 for parts in sections.values())


def test_the_page_says_what_it_compares(made):
    page = made[2]
    for words in (
        "120 generated pairs (made) with 39 real pairs (photos), squares of 512 pixels cut from 39 photos",
        "at 128 × 128 pixels",
        "embeddings of the encoder random:resnet18;",
        "KID uses all 120 generated and 39 real images",
        "19 and 19",
        "among 39 crops of 39 photos",
        "synthset report --seed=0",
    ):
        assert words in " ".join(page.text.split())
    assert page.warnings == [  # 0.5 / 39 ** 0.5 = 0.08
        "There are only 39 real photos. The standard error of shares such as precision, recall and coverage is up to "
        "± 0.08; smaller differences are not significant."
    ]


def test_the_page_is_the_same_each_time(made):
    assert page_of(pair_set(39), pair_set(120, seed=1))[0] == made[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trained": False}, "UNTRAINED ENCODER"),
        ({"complete": False}, "Parts of the real photos were not searched"),
    ],
)
def test_warnings(changes, words):
    html, _ = page_of(pair_set(120), pair_set(120, seed=1), **changes)
    assert [warning[: len(words)] for warning in Page(html).warnings] == [words]
    assert not Page(page_of(pair_set(120), pair_set(120, seed=1))[0]).warnings


def test_a_search_that_is_blind_to_copies_says_so():
    real, generated = pair_set(120), pair_set(120, seed=1)
    comparison = compare(real, generated, generated.vectors)
    html = render_page(comparison.numbers, draw_figures(real, generated, comparison), **FACTS)
    assert [w.startswith("This search would miss shifted or mirrored copies") for w in Page(html).warnings] == [True]


def test_two_photos_and_no_object():
    page = Page(page_of(pair_set(2, objects=False), pair_set(3, seed=1, objects=False))[0])
    assert page.warnings[0].startswith("With 2 real and 3 generated photos, the measures on embeddings are not")
    assert page.text.count("not computed") == 2 * 5 + 2 + 1  # KID ... coverage, sizes of objects, and the warning
    assert "nan" not in page.text.lower()


def test_names_are_text_and_results_are_listed():
    results = {"<b>x</b>": {"Dice": "0.5 ± 0.1", "runs": "3"}, "real": {"Dice": "0.6", "runs": "1"}}
    html, _ = page_of(pair_set(12), pair_set(12, seed=1), generated="<script>alert()</script>", results=results)
    page = Page(html)
    assert "<script" not in html and "<b>" not in html and "<b>x</b>" in page.text
    parts = page.sections["Segmenters trained on it"]
    assert (parts.count("th"), parts.count("td"), parts.count("good")) == (3, 6, 1)
    assert "0.5 ± 0.1" in page.text
