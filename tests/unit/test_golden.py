"""The golden prompt: what is read of it, and what answers it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ami.golden import Golden

ROOT = Path(__file__).parents[2]
ENTRIES = json.loads((ROOT / "ami" / "golden.json").read_text())


@pytest.mark.parametrize("name", ENTRIES)
def test_each_entry_is_sound(name: str) -> None:
    """It asks something, and something is expected; a prompt that says it already would prove nothing."""
    golden = Golden.read(ROOT / "ami" / "golden.json", name)

    assert golden.prompt
    assert golden.words
    assert golden.max_tokens > 0
    assert not golden.is_answered_by(golden.prompt)


@pytest.mark.parametrize(
    ("text", "is_right"), [("It is PARIS, in France.", True), ("Paris.", False), ("", False), ("France", False)]
)
def test_all_words_have_to_be_there(text: str, is_right: bool) -> None:  # noqa: FBT001 - a column of the table above
    """In whatever case."""
    assert Golden("?", ("Paris", "France"), 8).is_answered_by(text) is is_right


@pytest.mark.parametrize("text", ["{}", '{"a": {}}', '{"a": {"prompt": "x", "words": ["y"]}}', '{"a": 1}'])
def test_an_entry_that_is_not_there_is_refused(tmp_path: Path, text: str) -> None:
    """Before anything is started."""
    path = tmp_path / "golden.json"
    path.write_text(text)

    with pytest.raises(ValueError, match="has no entry a with"):
        Golden.read(path, "a")
