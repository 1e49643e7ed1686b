"""The cache of converted models; the conversion itself is stood in for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from worker import gguf
from worker.errors import SettingsError


class Conversions:
    """Counts conversions; writes one file a time."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _source: Path, target: Path) -> None:
        """Convert nothing into a folder."""
        self.count += 1
        target.mkdir()
        (target / "config.json").write_text("{}")


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> Conversions:
    """Stand in for the conversion."""
    counter = Conversions()
    monkeypatch.setattr(gguf, "_convert", counter)
    return counter


def test_two_at_once_convert_once(tmp_path: Path, conversions: Conversions) -> None:
    """Whoever comes second waits for the first and takes what that one made."""
    target = tmp_path / "models" / "m"
    threads = [threading.Thread(target=gguf._convert_once, args=(tmp_path / "m.gguf", target)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert conversions.count == 1
    assert [file.name for file in target.iterdir()] == ["config.json"]


def test_half_written_folder_is_never_used(tmp_path: Path, conversions: Conversions) -> None:
    """What a killed conversion left is thrown away, not taken over."""
    partial = tmp_path / ".m.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_text("half")
    gguf._convert_once(tmp_path / "m.gguf", tmp_path / "m")
    assert conversions.count == 1
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["config.json"]


def test_failed_conversion_leaves_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion that raises half-way is tried again the next time."""

    def fail(_source: Path, target: Path) -> None:
        target.mkdir()
        raise ValueError("not a GGUF")

    monkeypatch.setattr(gguf, "_convert", fail)
    with pytest.raises(ValueError, match="not a GGUF"):
        gguf._convert_once(tmp_path / "m.gguf", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_cache_is_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the same name with other content gets another folder, a copy elsewhere the same one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf, "_convert_in_child", lambda _gguf, target: target.mkdir(parents=True))
    folders = []
    for place, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "m.gguf").write_bytes(content)
        folders.append(gguf.converted(tmp_path / place / "m.gguf"))
    assert folders[0] == folders[1] != folders[2]
    assert folders[0].parent == tmp_path / "cache" / "tl-fif" / "models"
    assert folders[0].name.startswith("m-")


def test_missing_file(tmp_path: Path) -> None:
    """A path that leads nowhere is an error of the settings, named as such."""
    with pytest.raises(SettingsError, match=r"TLFIF_MODEL cannot be read: .*nowhere\.gguf"):
        gguf.converted(tmp_path / "nowhere.gguf")
