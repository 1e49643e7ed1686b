"""The drawings of docs/: well-formed, told in words, good by day and by night, and no text out of its place."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # our own files
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.ft2font import FT2Font

from tests.infra.markdown_pages import ROOT, files, links, read, target

DRAWINGS = sorted(name for name in files() if re.fullmatch(r"docs/[^/]+\.svg", name))
SVG = "{http://www.w3.org/2000/svg}"
FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
SIZES = {"name": (17.0, "DejaVuSans-Bold"), "step": (13.0, "DejaVuSans"), "note": (12.5, "DejaVuSans")}
SIZES |= {"mono": (12.0, "DejaVuSansMono"), "num": (12.0, "DejaVuSans-Bold")}
"""What the classes of text look like where the fonts of the drawing are missing; DejaVu is wider than those."""


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle, and what it is of."""

    left: float
    top: float
    right: float
    bottom: float
    of: str = ""

    def holds(self, other: Area) -> bool:
        """Tell whether all of the other one is inside."""
        beside = self.left <= other.left and other.right <= self.right
        return beside and self.top <= other.top and other.bottom <= self.bottom

    def meets(self, other: Area) -> bool:
        """Tell whether the two have a point in common."""
        beside = self.left < other.right and other.left < self.right
        return beside and self.top < other.bottom and other.top < self.bottom


@cache
def width(text: str, size: float, name: str) -> float:
    """Measure a text in the units of a drawing."""
    font = FT2Font(str(FONTS / f"{name}.ttf"))
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64


def texts(root: ET.Element) -> list[Area]:
    """Return where each text of a drawing is."""
    found = []
    for each in root.iter(f"{SVG}text"):
        classes = (each.get("class") or "").split()
        size, font = next(SIZES[name] for name in classes if name in SIZES)
        said = each.text or ""
        wide, x, y = width(said, size, font), float(each.get("x", 0)), float(each.get("y", 0))
        left = x - wide / 2 if {"mid", "num"} & set(classes) else x - wide if "end" in classes else x
        found.append(Area(left, y - size * 0.76, left + wide, y + size * 0.24, said))
    return found


def boxes(root: ET.Element) -> list[Area]:
    """Return where each box of a drawing is, the frames around several included."""
    found = []
    for each in root.iter(f"{SVG}rect"):
        x, y, wide, high = (float(each.get(name, 0)) for name in ("x", "y", "width", "height"))
        found.append(Area(x, y, x + wide, y + high))
    return found


def misplaced(drawing: str) -> list[str]:
    """Say which texts of a drawing are cut off, cross the edge of a box, or lie over each other."""
    root = ET.fromstring(drawing)  # noqa: S314 - our own file
    left, top, wide, high = (float(each) for each in root.get("viewBox", "").split())
    sheet, written, around = Area(left, top, left + wide, top + high), texts(root), boxes(root)
    found = [f"{text.of!r} is cut off" for text in written if not sheet.holds(text)]
    found += [
        f"{text.of!r} crosses an edge"
        for text in written
        if any(box.meets(text) and not box.holds(text) for box in around)
    ]
    found += [f"{one.of!r} lies over {other.of!r}" for one, other in combinations(written, 2) if one.meets(other)]
    return found


def test_there_are_drawings() -> None:
    """The way of a prompt, the parts, a job, the GPU, delivery."""
    assert len(DRAWINGS) >= 5


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_text_is_in_its_place(name: str) -> None:
    """On the sheet, in its box, and beside the others."""
    assert misplaced(read(name)) == []


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_tells_what_it_shows(name: str) -> None:
    """To who cannot see it, in words, and to who reads by night, in other colours; and a page shows it."""
    text = read(name)
    root = ET.fromstring(text)  # noqa: S314 - our own file
    assert root.get("role") == "img"
    assert all((root.findtext(f"{SVG}{part}") or "").strip() for part in ("title", "desc"))
    assert "prefers-color-scheme: dark" in text
    pages = [page for page in files() if page.endswith(".md")]
    assert any(name in {target(page, link)[0] for link in links(read(page))} for page in pages)


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_class_has_a_style(name: str) -> None:
    """And every style is used: a colour of the day that the night does not know is easily forgotten."""
    text = read(name)
    styles, _, drawn = text.partition("</style>")
    used = {each for value in re.findall(r'class="([^"]+)"', drawn) for each in value.split()}
    assert used == set(re.findall(r"\.([a-z]+)(?=[ ,{])", styles.partition("@media")[0]))


SHEET = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100">{}</svg>'


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ('<text class="name mid" x="20" y="50">Cut off</text>', "'Cut off' is cut off"),
        ('<text class="note" x="5" y="5">High</text>', "'High' is cut off"),
        (
            '<rect x="50" y="20" width="60" height="40"/><text class="step mid" x="80" y="40">Too wide for it</text>',
            "edge",
        ),
        (
            '<text class="step" x="9" y="40">One</text><text class="mono" x="20" y="44">Two</text>',
            "'One' lies over 'Two'",
        ),
    ],
)
def test_a_misplaced_text_is_found(drawn: str, said: str) -> None:
    """One of each kind, and nothing besides."""
    (found,) = misplaced(SHEET.format(drawn))
    assert said in found


def test_a_placed_text_is_none() -> None:
    """In a box within a frame, with another one below it."""
    drawn = '<rect x="10" y="10" width="180" height="80"/><rect x="20" y="20" width="90" height="60"/>'
    drawn += '<text class="name mid" x="65" y="45">Box</text><text class="note mid" x="65" y="62">a note</text>'
    assert misplaced(SHEET.format(drawn)) == []


def test_the_root_has_them() -> None:
    """The paths are those of the repository."""
    assert all((ROOT / name).is_file() for name in DRAWINGS)
