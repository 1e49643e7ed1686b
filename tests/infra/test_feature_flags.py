"""docs/feature-flags.md names every flag that the code has, and each keeps the page's rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "feature-flags.md").read_text(encoding="utf-8")
PRODUCT = ("worker", "router_lambda", "client", "local", "ami", "terraform", "supervisord", ".ci", ".github")
SUFFIXES = {".py", ".sh", ".tf", ".tftpl", ".conf", ".service", ".env", ".yml", ".json", ".mjs", ""}

FLAG = re.compile(r"\bTL_[A-Z0-9_]+\b")
NAME = re.compile(r"TL_(?:DISABLE|ENABLE)_[A-Z0-9]+(?:_[A-Z0-9]+)*")
SWITCH = re.compile(
    r"\b(?!TL_)(?:[A-Z0-9]+_)*(?:DISABLED?|ENABLED?|BYPASS|SKIP|DRY|FEATURE|FLAGS?|EXPERIMENTAL)(?:_[A-Z0-9]+)+\b"
    r"|\b(?!TL_)(?:[A-Z0-9]+_)+(?:DISABLED?|ENABLED?|BYPASS|SKIP|FEATURE|FLAGS?|EXPERIMENTAL)\b"
)
NO_SWITCH = {"TL_FIF"}
"""Looks like a flag and is the system's name, in capitals."""


def sources() -> dict[str, str]:
    """Read what is delivered, and what delivers it."""
    files = (path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*")))
    wanted = [
        path.relative_to(ROOT)
        for path in files
        if path.is_file()
        and path.suffix in SUFFIXES
        and not {"tests", "node_modules", ".terraform"} & set(path.relative_to(ROOT).parts)
    ]
    return {path.as_posix(): (ROOT / path).read_text(encoding="utf-8", errors="replace") for path in wanted}


SOURCES = sources()


def rows(heading: str, page: str = PAGE) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    _, _, part = page.partition(f"\n## {heading}\n")
    lines = [line for line in part.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def named(cell: str) -> list[str]:
    """Return what stands in code spans."""
    return re.findall(r"`([^`]+)`", cell)


def faults(page: str, texts: dict[str, str]) -> list[str]:
    """Say which flags the page lacks, which it has too many, and which row is wrong about one."""
    found = []
    in_code = {flag for text in texts.values() for flag in FLAG.findall(text)} - NO_SWITCH
    table = {named(cells[0])[0]: cells for cells in rows("Flags", page)}
    found += [f"{flag} is in no row" for flag in in_code - set(table)]
    found += [f"{flag} is in no code" for flag in set(table) - in_code]
    for flag in in_code & set(table):
        _, _, reads, tests, goes = table[flag]
        readers = [name for name, text in texts.items() if _is_read(flag, name, text)]
        if not NAME.fullmatch(flag):
            found.append(f"{flag} does not say what it disables or enables")
        if named(reads) != readers:
            found.append(f"{flag} is read in {readers}")
        if not named(tests) or any(flag not in (ROOT / test).read_text(encoding="utf-8") for test in named(tests)):
            found.append(f"{flag} is not in {tests}")
        if not goes:
            found.append(f"{flag} does not say when it goes")
    switches = {switch for text in texts.values() for switch in SWITCH.findall(text)}
    explained = {name for cells in rows("Switches that are none", page) for name in named(cells[0])}
    found += [f"{switch} is in no row" for switch in switches - explained]
    return found + [f"{switch} is in no code" for switch in explained - switches]


def _is_read(flag: str, name: str, text: str) -> bool:
    """Tell whether a file looks a flag up; the scripts in .ci only speak of one."""
    return name.endswith(".py") and not name.startswith(".ci/") and flag in text and flag in constants(text)


def constants(text: str) -> set[str]:
    """Return the strings of a module that are nothing but a name: what is looked up."""
    values = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    return {value for value in values if isinstance(value, str) and re.fullmatch(r"[A-Z0-9_]+", value)}


def test_every_flag_is_on_the_page() -> None:
    """And no other; who reads it and what tests it is true."""
    assert faults(PAGE, SOURCES) == []


SETTINGS = "router_lambda/settings.py"
READ = '    return environment.get("TL_DISABLE_JWT") == "1"\n'


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (SETTINGS, f'{SOURCES[SETTINGS]}\nNEW = "TL_ENABLE_STREAMS"\n', "TL_ENABLE_STREAMS is in no row"),
        (SETTINGS, SOURCES[SETTINGS].replace("TL_DISABLE_JWT", "TLFIF_JWT"), "TL_DISABLE_JWT is in no code"),
        (
            "client/x.py",
            f"def x(environment):\n{READ}",
            "TL_DISABLE_JWT is read in ['router_lambda/settings.py', 'client/x.py']",
        ),
        ("ami/x.sh", "[[ $TL_FAST == 1 ]]", "TL_FAST is in no row"),
        ("ami/x.sh", "[[ $TLFIF_SKIP_PROOF == 1 ]]", "TLFIF_SKIP_PROOF is in no row"),
        ("worker/x.py", 'X = environment.get("FEATURE_FLAG")', "FEATURE_FLAG is in no row"),
    ],
)
def test_a_flag_that_nobody_wrote_down_is_found(name: str, text: str, words: str) -> None:
    """Or one that is gone, or is read in two places, or is called something else."""
    assert any(fault.startswith(words) for fault in faults(PAGE, SOURCES | {name: text}))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("| `TL_DISABLE_JWT` |", "| `TL_DISABLE_JWTS` |", "TL_DISABLE_JWT is in no row"),
        ("`router_lambda/settings.py`", "`router_lambda/tokens.py`", "TL_DISABLE_JWT is read in"),
        ("`tests/unit/test_router_settings.py`", "`tests/unit/test_idle.py`", "TL_DISABLE_JWT is not in"),
        ("| `TLFIF_DRY_RUN` |", "| `TLFIF_DRY` |", "TLFIF_DRY_RUN is in no row"),
    ],
)
def test_a_row_that_is_wrong_is_found(old: str, new: str, words: str) -> None:
    """One fault each."""
    assert old in PAGE
    assert any(fault.startswith(words) for fault in faults(PAGE.replace(old, new), SOURCES))


def test_a_name_that_says_nothing_is_found() -> None:
    """Whether 1 turns something on or off has to be seen where it is set."""
    page, texts = (
        PAGE.replace("TL_DISABLE_JWT", "TL_JWT"),
        {name: text.replace("TL_DISABLE_JWT", "TL_JWT") for name, text in SOURCES.items()},
    )

    assert "TL_JWT does not say what it disables or enables" in faults(page, texts)


def test_nothing_that_is_deployed_sets_one() -> None:
    """Neither Terraform nor the image nor a workflow: users get what is off."""
    deployed = {name: text for name, text in SOURCES.items() if not name.endswith(".py")}

    assert {name for name, text in deployed.items() if set(FLAG.findall(text)) - NO_SWITCH} == set()
