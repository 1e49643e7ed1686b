"""A small project of version 0.8.0, for tests of the version."""

from __future__ import annotations

from pathlib import Path

SMALL = "# Changelog\n\n## [Unreleased]\n\n### Added\n- A thing.\n\n## [0.8.0] - 2026-11-26\n\n### Fixed\n- Another.\n"


def small_project(folder: Path) -> Path:
    """Write it, with something unreleased, into an empty folder."""
    (folder / "VERSION").write_text("0.8.0\n")
    (folder / "router_lambda").mkdir()
    (folder / "router_lambda" / "openapi.yaml").write_text("info:\n  title: t\n  version: 0.8.0\n  summary: s\n")
    (folder / "CHANGELOG.md").write_text(SMALL)
    return folder
