"""The pages that `make reference` writes are what it would write now, and it leaves nothing out."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from router_lambda.settings import RouterConfigError
from tests.infra.markdown_pages import ROOT, files, prose, read
from tests.infra.reference_samples import OF_A_MODULE, OF_A_ROOT, Inner, Outer, Sample, Unexplained
from worker.settings import Settings

SCRIPT = ROOT / ".ci" / "reference.py"
CONFIGURATION = "docs/configuration.md"
WRITTEN = (CONFIGURATION, "docs/api.md", "docs/adr/README.md")
BESIDES = {CONFIGURATION, "docs/feature-flags.md", "CONTRIBUTING.md"}
"""Where variables may stand in a table: here, where flags are listed, and where that of GitHub's workflows is."""


def reference(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give what imports a module that the script is made of."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return lambda name: importlib.import_module(f"pages.{name}")


def rows(table: str) -> dict[str, list[str]]:
    """Return the rows of all tables by what stands in code in their first cell."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {name[1]: row for row in cells if (name := re.match(r"`([^`]+)`", row[0]))}


# As a whole


def test_the_pages_are_current() -> None:
    """After a change of what they describe: `make reference`."""
    checked = reference("--check")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    """And named, and left as it is; without `--check` it is written, and then nothing is left to do."""
    assert reference("--output", str(tmp_path)).returncode == 0
    page = tmp_path / CONFIGURATION
    page.write_text(page.read_text("utf-8").replace("| `64` |", "| `65` |"), "utf-8")
    (tmp_path / "docs" / "api.md").unlink()
    checked = reference("--check", "--output", str(tmp_path))
    assert checked.returncode == 1
    assert f"{CONFIGURATION}, docs/api.md; run: make reference" in checked.stderr
    assert "| `65` |" in page.read_text("utf-8")
    assert reference("--output", str(tmp_path)).stdout.splitlines() == [f"wrote {CONFIGURATION}", "wrote docs/api.md"]
    assert reference("--check", "--output", str(tmp_path)).returncode == 0


@pytest.mark.parametrize("page", WRITTEN)
def test_a_page_says_who_wrote_it(page: str) -> None:
    """So that nobody mends it by hand."""
    assert read(page).startswith("<!-- Written by `make reference`")


def test_every_variable_that_is_read_is_on_the_page() -> None:
    """Each name that stands in the code of worker, functions and client."""
    read_ = {
        name
        for folder in ("worker", "router_lambda", "client")
        for path in (ROOT / folder).glob("*.py")
        for name in re.findall(r"\b(?:TLFIF_[A-Z0-9_]*[A-Z0-9]|TL_DISABLE_[A-Z]+)\b", path.read_text(encoding="utf-8"))
    }
    assert len(read_) > 25
    assert read_ - set(re.findall(r"\bTL[A-Z0-9_]+\b", read(CONFIGURATION))) == set()


def test_settings_are_listed_nowhere_else() -> None:
    """A second table would be right for a while."""
    known = rows(read(CONFIGURATION))
    doubled = [
        (page, row)
        for page in files()
        if page.endswith(".md") and page not in BESIDES
        for row in rows(prose(read(page)))
        if row in known and row.startswith("TL")
    ]
    assert doubled == []


# The worker


def test_the_worker_s_table_is_its_settings(pages: Any) -> None:
    """Every field, under the name of its variable."""
    table = rows(pages("worker").render(Settings))
    assert list(table) == [pages("worker").variable(Settings, name) for name in Settings.model_fields]
    assert table["TLFIF_MAX_CONCURRENCY"][1:3] == ["`64`", "at least 1, at most 4,096"]
    assert table["TLFIF_REDIS_URL"][1:3] == ["required", "must start with redis://, rediss:// or unix://"]
    assert table["TLFIF_HALT_COMMAND"][1] == "none"


def test_a_field_is_described(pages: Any) -> None:
    """Default, limits and meaning; a bar does not end a cell."""
    table = rows(pages("worker").render(Sample))
    assert table["SAMPLE_CUPS"] == ["`SAMPLE_CUPS`", "`3`", "more than 0, less than 9", "How many cups."]
    assert table["SAMPLE_NAME"] == ["`SAMPLE_NAME`", "required", "`^[a-z]+$`", r"Whose coffee \| tea it is."]
    assert table["SAMPLE_IS_HOT"][1:3] == ["`true`", "`true` or `false`"]


def test_a_field_without_a_docstring_is_found(pages: Any) -> None:
    """And it is said where to write one."""
    with pytest.raises(pages("docstrings").Unexplained, match=r"docstring of .*Unexplained what `cups` means"):
        pages("worker").render(Unexplained)


# The functions


def test_a_class_is_asked_what_it_reads(pages: Any) -> None:
    """Names, needs, defaults, limits, and which field each ends up in."""
    cups, bucket = pages("functions").variables(Outer)
    assert (cups.name, cups.default, cups.limits) == ("TLFIF_CUPS", "`3`", "a whole number from 1 to 9")
    assert cups.field == (Outer, "cups")
    assert (bucket.name, bucket.default, bucket.limits, bucket.field) == (
        *("TLFIF_BUCKET", "required", ""),
        (Inner, "bucket"),
    )
    assert pages("docstrings").attributes(Inner) == {"bucket": "where it is kept."}


def test_a_variable_that_takes_no_sample_is_found(pages: Any) -> None:
    """Instead of a table without it."""

    class Strange(Outer):
        @classmethod
        def from_environment(cls, environment: Mapping[str, str]) -> Self:
            raise RouterConfigError(["set TLFIF_MOON to a moon"])

    with pytest.raises(pages("functions").NotFoundOut, match="TLFIF_MOON"):
        pages("functions").variables(Strange)


def test_every_function_has_its_part(pages: Any) -> None:
    """By the calls in the modules that have a handler; every class is read by one."""
    module = pages("functions")
    users = module.functions()
    assert sorted(name for names in users.values() for name in names) == sorted(
        *[
            [
                "router",
                "authorizer",
                "queue health",
                "waker",
                "reaper",
                "gauges",
                "canary",
                "cost publisher",
                "budget killer",
            ]
        ]
    )
    assert {each.__name__ for each in module.classes()} == users.keys()


# The rest


def test_options_are_argparse_s(pages: Any) -> None:
    """With the default out of the help, or out of the parser."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cup", nargs="?", help="which cup")
    parser.add_argument("--cups", type=int, default=3, metavar="N", help="how many (default %(default)d)")
    parser.add_argument("--of", help="whose (default: TLFIF_OF)")
    parser.add_argument("--hot", action="store_true", help="whether it is hot")
    parser.add_argument("--form", choices=["text", "json"], help="how")
    table = rows(pages("options").render(parser))
    assert table == {
        "[CUP]": ["`[CUP]`", "", "Which cup."],
        "--cups N": ["`--cups N`", "`3`", "How many."],
        "--of OF": ["`--of OF`", "`TLFIF_OF`", "Whose."],
        "--hot": ["`--hot`", "", "Whether it is hot."],
        r"--form text\|json": [r"`--form text\|json`", "none", "How."],
    }


def test_terraform_s_variables_are_the_roots_s(pages: Any, tmp_path: Path) -> None:
    """What a module asks of a value that is handed to it stands beside the root's variable."""
    module = tmp_path / "modules" / "cup"
    module.mkdir(parents=True)
    (module / "variables.tf").write_text(OF_A_MODULE)
    (tmp_path / "main.tf").write_text(OF_A_ROOT)
    table = rows(pages("terraform").render(tmp_path))
    assert table["cup_size"] == ["`cup_size`", "`number`", "`3`", 'Size of a "cup".', "A cup is more than nothing."]
    assert table["tag"][1:3] == ["`object({name = string, value = string})`", "required"]


@pytest.mark.parametrize("root", ["terraform", "terraform/image", "terraform/delivery"])
def test_every_variable_of_a_root_is_on_the_page(root: str) -> None:
    """Counted by another way than the script's."""
    text = "".join(path.read_text("utf-8") for path in (ROOT / root).glob("*.tf"))
    names = set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    assert names
    assert names - set(rows(read(CONFIGURATION))) == set()


def test_the_api_s_page_has_all_of_openapi(pages: Any) -> None:
    """Routes, statuses, fields, headers and examples."""
    text = read("docs/api.md")
    document = yaml.safe_load((ROOT / "router_lambda" / "openapi.yaml").read_text("utf-8"))
    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "post"}:
            part = text.partition(f"\n### {method.upper()} {path}\n")[2].partition("\n### ")[0]
            assert all(f"\n| {status} " in part for status in item[method]["responses"])
    for name, schema in document["components"]["schemas"].items():
        assert name == "ProblemMembers" or f"\n### {name}\n" in text
        assert all(re.search(rf"^\| `(\S+\.)?{field}` ", text, re.MULTILINE) for field in schema.get("properties", {}))
    for response in document["components"]["responses"].values():
        assert all(f"`{name}`" in text for name in response.get("headers", {}))


def test_every_decision_has_a_topic(pages: Any) -> None:
    """A new one is put into `.ci/pages/decisions.py`; one that is gone is taken out."""
    module, folder = pages("decisions"), ROOT / "docs" / "adr"
    listed = [slug for slugs in module.TOPICS.values() for slug in slugs]
    there = sorted(re.sub(r"^ADR-\d{4}-\d{2}-\d{2}-|\.md$", "", path.name) for path in folder.glob("ADR-*.md"))
    assert sorted(listed) == there


def test_a_decision_without_a_topic_is_shown(pages: Any, tmp_path: Path) -> None:
    """It is not lost, and the test above names it."""
    (tmp_path / "ADR-2026-11-26-coffee.md").write_text("# Drink coffee\n\n## Context\nTired.\n")
    (tmp_path / "ADR-2026-11-23-throttle.md").write_text("# Throttle\n\n## Context\nMany.\n")
    shown = pages("decisions").render(tmp_path)
    assert shown.index("## The API and the router") < shown.index("[Throttle](ADR-2026-11-23-throttle.md)")
    assert shown.endswith("## Not sorted yet\n\n- [Drink coffee](ADR-2026-11-26-coffee.md), 2026-11-26")
