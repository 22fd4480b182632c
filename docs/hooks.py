"""mkdocs: pages that are files of the repository's top folder, with their links as seen from docs/."""

import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_page_markdown(markdown: str, page, **_) -> str:
    """Replaces a page of `PAGES`, which holds nothing itself, by its file."""
    source = PAGES.get(page.file.src_uri)
    if source is None:
        return markdown
    page_of = {name: uri for uri, name in PAGES.items()}

    def link(match: re.Match) -> str:
        text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match.group()
        if target in page_of or PurePosixPath(target).parts[0] == "docs":
            return f"[{text}]({page_of.get(target) or target.removeprefix('docs/')})"
        return f"{text} (`{target}`)"  # not on this site

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", link, (ROOT / source).read_text(encoding="utf-8"))


def on_page_content(html: str, page, **_) -> str:
    """Links the [`name`] of docstrings to what is documented on the same page under that name."""
    places = {}
    for place in re.findall(r'id="(synthset\.[\w.]+)"', html):
        places.setdefault(place.rpartition(".")[2], place)

    def link(match: re.Match) -> str:
        name = match.group(1)
        return f'<a href="#{places[name]}"><code>{name}</code></a>' if name in places else f"<code>{name}</code>"

    return re.sub(r"\[<code>([\w.]+)</code>\]", link, html)
