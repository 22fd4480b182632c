"""HTML pages with embedded figures."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jinja2
from PIL import Image

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
.settings { color: #555; font-size: .85em; overflow-wrap: anywhere; white-space: pre-wrap; }
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
<p class="good">Good if {{ section.good }}</p>
{% endif %}
{% for warning in section.warnings %}
<p class="warning">{{ warning }}</p>
{% endfor %}
{% endfor %}
<h2>How this page was made</h2>
<p class="settings">{{ command }}</p>
</body>
</html>
""")


@dataclass
class Section:
    """Section of the page.

    Attributes:
        title: its heading.
        good: one sentence that describes a good result.
        text: paragraphs.
        tables: each a list of rows of cells, the header first.
        figures: name of a figure -> caption.
        warnings: highlighted paragraphs.
    """

    title: str
    good: str = ""
    text: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def number(value: float | int | None, scale: float = 1, unit: str = "") -> str:
    """Formats `value` with three significant digits; None is "not computed"."""
    return "not computed" if value is None else f"{value * scale:.3g}{unit}"


def render_html(
    title: str,
    introduction: Sequence[str],
    warnings: Sequence[str],
    sections: Sequence[Section],
    figures: Mapping[str, Image.Image],
    command: str,
) -> str:
    """Renders a page.

    Args:
        title: heading.
        introduction: paragraphs.
        warnings: highlighted paragraphs below it.
        sections: what follows.
        figures: the images that sections name.
        command: the command line that made the page.
    """
    png = {}
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.save(buffer, "PNG")
        png[name] = base64.b64encode(buffer.getvalue()).decode()
    return TEMPLATE.render(
        title=title, introduction=introduction, warnings=warnings, sections=sections, png=png, command=command
    )
