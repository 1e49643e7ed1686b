"""Every decision record has the form that CONTRIBUTING.md asks for."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "adr"
RECORDS = sorted(path for path in FOLDER.iterdir() if path.name != "README.md")  # that one is the index
NAME = re.compile(r"ADR-(\d{4}-\d{2}-\d{2})-[a-z0-9]+(?:[.-][a-z0-9]+)*\.md")
PARAGRAPH = r"(?:[^\s#].*\n)+"
FORM = re.compile(rf"# \S.*\n\n## Context\n{PARAGRAPH}\n## Decision\n{PARAGRAPH}\n## Consequences\n{PARAGRAPH}")
FORM_IN_WORDS = "a title, then Context, Decision and Consequences, one paragraph each"


def fault(name: str, text: str, today: date) -> str | None:
    """Say what is wrong with a record, `None` when nothing is."""
    named = NAME.fullmatch(name)
    if not named:
        return "the file must be called ADR-<date>-<slug>.md"
    try:
        if date.fromisoformat(named[1]) > today:
            return f"{named[1]} has not come yet"
    except ValueError:
        return f"{named[1]} is no date"
    return None if FORM.fullmatch(text) else f"the text must be {FORM_IN_WORDS}"


def test_there_are_records() -> None:
    """An empty folder would pass the next test."""
    assert RECORDS


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_record_has_the_form(record: Path) -> None:
    """Name, date and text are as `fault` wants them."""
    # A day of grace: the author may live east of the machine that checks.
    tomorrow = date.fromordinal(date.today().toordinal() + 1)  # noqa: DTZ011 - a calendar day, not a moment
    assert fault(record.name, record.read_text(encoding="utf-8"), tomorrow) is None


GOOD_NAME = "ADR-2026-11-23-why.md"
GOOD = "# Why\n\n## Context\nA.\n\n## Decision\nB.\n\n## Consequences\nC.\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("2026-11-23-why.md", GOOD),
        ("ADR-2026-11-23.md", GOOD),
        ("ADR-2026-11-23-Why.md", GOOD),
        ("ADR-2026-11-23-why.txt", GOOD),
        ("ADR-2026-02-30-why.md", GOOD),
        ("ADR-2026-11-24-why.md", GOOD),
        (GOOD_NAME, GOOD.removeprefix("# Why\n\n")),
        (GOOD_NAME, GOOD.replace("# Why", "# ")),
        (GOOD_NAME, GOOD.replace("## Decision\nB.\n\n", "")),
        (GOOD_NAME, GOOD.replace("B.", "")),
        (GOOD_NAME, GOOD.replace("C.\n", "")),
        (GOOD_NAME, GOOD.replace("Context", "Zusammenhang")),
        (GOOD_NAME, GOOD.replace("## Context\nA.\n\n## Decision\nB.", "## Decision\nB.\n\n## Context\nA.")),
        (GOOD_NAME, GOOD.replace("B.", "B.\n\nAnd more.")),
        (GOOD_NAME, GOOD + "\n## Status\nAccepted.\n"),
        (GOOD_NAME, ""),
    ],
)
def test_a_malformed_record_is_found(name: str, text: str) -> None:
    """The check itself can fail."""
    assert fault(GOOD_NAME, GOOD, date(2026, 11, 23)) is None
    assert fault(name, text, date(2026, 11, 23)) is not None
