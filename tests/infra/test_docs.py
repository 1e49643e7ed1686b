"""The pages: all are found from docs/README.md, links lead somewhere, commands are run or say what they need."""

from __future__ import annotations

import ast
import re

import pytest

from tests.infra.doc_blocks import NEEDS, RUN_BY, STANDS_FOR, fault, needed
from tests.infra.markdown_pages import ROOT, Block, anchors, blocks, dead, files, links, prose, read, target

FILES = files()
PAGES = sorted(name for name in FILES if name.endswith(".md"))
INDEX = "docs/README.md"
UNLINKED = (".github/", "benchmarks/findings/")
"""Forms that GitHub shows by itself, and parts that benchmarks/README.md is made of, from where their links lead."""


def reachable(start: str) -> set[str]:
    """Return the pages that somebody finds who begins at one and follows links."""
    seen, waiting = {start}, [start]
    while waiting:
        page = waiting.pop()
        for link in links(read(page)):
            path, _ = target(page, link)
            if path in FILES and path.endswith(".md") and path not in seen:
                seen.add(path)
                waiting.append(path)
    return seen


# Links


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("benchmarks/findings/")])
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file that is in the repository, and to a heading that its page has."""
    assert dead(page, read(page), FILES) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](moon.md)", "there is no moon.md"),
        ("[a](moon.md#sea)", "there is no moon.md#sea"),
        ("[a](failures.md#the-moon)", "there is no heading for failures.md#the-moon"),
        ("# Here\n[a](#there)", "there is no heading for #there"),
        ("![a](moon.svg)", "there is no moon.svg"),
        ('<img alt="a" src="moon.png">', "there is no moon.png"),
        ("[a](../../other/README.md)", "leads out of the repository"),
        ("[![a](moon.svg)](client.md)", "there is no moon.svg"),
        ("[![a](../../actions/workflows/moon.yml/badge.svg)](client.md)", "there is no workflow moon.yml"),
    ],
)
def test_a_dead_link_is_found(text: str, said: str) -> None:
    """One of each kind, and nothing besides."""
    (found,) = dead(INDEX, text, FILES)
    assert said in found


@pytest.mark.parametrize(
    "text",
    [
        "[a](client.md#log-in) [b](../README.md) [c](adr) [d](https://example.org/moon)",
        "[![a](../../actions/workflows/ci.yml/badge.svg?branch=main)](../../actions/workflows/ci.yml)",
        "`[a](moon.md)`\n```md\n[a](moon.md)\n```\n",
        "# Say `it`, twice!\n## Say it twice\n[a](#say-it-twice) [b](#say-it-twice-1)",
    ],
)
def test_a_good_link_is_none(text: str) -> None:
    """Nor is what stands in code."""
    assert dead(INDEX, text, FILES) == []


def test_a_comment_in_a_script_is_no_heading() -> None:
    """A block may hold lines that begin with `#`."""
    assert anchors("# One\n```sh\n# two\n```\n## [Three](x.md) and `four`\n") == {"one", "three-and-four"}


# Pages


def test_every_page_is_found_from_the_index() -> None:
    """By following links from docs/README.md."""
    assert [page for page in PAGES if not page.startswith(UNLINKED) and page not in reachable(INDEX)] == []


def test_the_index_has_every_page_of_docs() -> None:
    """Itself, and not by way of another page: who looks for something looks there."""
    listed = {target(INDEX, link)[0] for link in links(read(INDEX))}
    wanted = {page for page in PAGES if re.fullmatch(r"docs/[^/]+\.md", page)} - {INDEX}
    assert wanted - listed == set()


def test_the_first_page_leads_to_the_index() -> None:
    """Who comes to the repository sees README.md first."""
    assert INDEX in {target("README.md", link)[0] for link in links(read("README.md"))}


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith((*UNLINKED, "benchmarks/"))])
def test_a_page_has_one_title(page: str) -> None:
    """One heading of the first level, before all others."""
    levels = re.findall(r"^(#+) ", prose(read(page)), re.MULTILINE)
    assert levels[0] == "#"
    assert levels.count("#") == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_test_that_a_page_names_is_there(page: str) -> None:
    """A file below tests/, with the test if one is named, or a folder."""
    for path, _, name in re.findall(r"`(tests/[\w/]+(?:\.py)?)(::(\w+))?`", prose(read(page))):
        assert path in FILES or any(each.startswith(f"{path.rstrip('/')}/") for each in FILES), path
        assert not name or name in functions(path), f"{path} has no {name}"


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith(("docs/adr/", *UNLINKED))])
def test_a_file_that_a_page_names_is_there(page: str) -> None:
    """By its path from the root or its end; decisions are history and may name what was."""
    named = re.findall(r"`(?:\./)?([\w.-]+(?:/[\w.-]+)+\.(?:py|tf|sh|ya?ml|toml|service))`", prose(read(page)))
    assert [path for path in named if not any(f"/{each}".endswith(f"/{path}") for each in FILES)] == []


def test_every_threat_has_a_test() -> None:
    """The table of docs/security.md names one in each row."""
    table = read("docs/security.md").partition("## Threats")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py`[^|]*\|$", row)] == []


# Commands


def functions(path: str) -> set[str]:
    """Return the names of a file's functions."""
    tree = ast.parse(read(path))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_what_it_needs(page: str) -> None:
    """By a test, or AWS, a node, Docker, GitHub."""
    text = read(page)
    assert [said for block in blocks(page, text) if (said := fault(block, text))] == []


def test_what_is_run_is_still_shown() -> None:
    """A page that changes its commands has to be looked at again."""
    shown = {(block.page, block.first) for page in PAGES for block in blocks(page, read(page))}
    assert (RUN_BY.keys() | STANDS_FOR.keys()) - shown == set()


@pytest.mark.parametrize("by", sorted(set(RUN_BY.values())))
def test_what_runs_it_is_there(by: str) -> None:
    """The test is there, and its file names the page that it takes the text from."""
    path, _, name = by.partition("::")
    assert name in functions(path)
    assert all(f'"{page}"' in read(path) for (page, _), each in RUN_BY.items() if each == by)


@pytest.mark.parametrize("key", STANDS_FOR, ids=" ".join)
def test_what_stands_for_it_does_the_same(key: tuple[str, str]) -> None:
    """By the words that are the program's name, in the file and in what make runs."""
    path, words = STANDS_FOR[key]
    assert words in read(path)
    if key[1].startswith("make ") and words != "make test":
        assert words in recipe(key[1].split()[1])


def recipe(name: str) -> str:
    """Return what a target of make runs."""
    (found,) = re.findall(rf"^{name}:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)
    return str(found)


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_is_there(page: str) -> None:
    """In blocks, and in the text."""
    text = read(page)
    asked = {
        name for block in blocks(page, text) for name in re.findall(r"(?m)(?:^|&& |; )make ([a-z][a-z-]*)", block.text)
    }
    asked |= set(re.findall(r"`make ([a-z][a-z-]*)", prose(text)))
    made = set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))
    assert asked - made == set()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("aws s3 ls", "AWS"),
        ("X=$(aws s3 ls)", "AWS"),
        ("until aws s3 ls; do sleep 1; done", "AWS"),
        ("cd terraform\nterraform apply", "AWS"),
        ("export URL=$(terraform output -raw api_url)", "AWS"),
        ("make bake", "AWS"),
        ("TLFIF_URL=https://host make smoke", "AWS"),
        ("sudo tail -F /var/log/messages", "a node"),
        ("sam local invoke RouterFunction", "Docker"),
        ("gh label list", "GitHub"),
        ("echo aws terraform sudo", None),
        ("make demo", None),
        ("cat deploy.log   # what make deploy said", None),
    ],
)
def test_what_a_block_needs_is_known_by_its_commands(command: str, what: str | None) -> None:
    """Where a command begins, and not where it is only mentioned."""
    assert needed(Block("page.md", 1, command)) == what


def test_a_block_that_nobody_runs_is_found() -> None:
    """So is one whose page does not say what it takes."""
    assert "no test runs `make coffee`" in str(fault(Block("page.md", 3, "make coffee\n"), "# Page\n"))
    assert "need AWS" in str(fault(Block("page.md", 3, "aws s3 ls\n"), "# Page\n\nType:\n"))
    assert fault(Block("page.md", 3, "aws s3 ls\n"), "# Page\n\nIn AWS:\n") is None
    assert set(NEEDS) == {"AWS", "a node", "Docker", "GitHub"}


def test_a_block_in_a_list_is_found() -> None:
    """With the number of its first line, and without the list's indent."""
    text = "# Page\n\n1. So:\n\n   ```sh\n   make demo   # here\n   ls\n   ```\n"
    (block,) = blocks("page.md", text)
    assert (block.line, block.text, block.first) == (6, "make demo   # here\nls\n", "make demo")


def test_the_root_is_the_repository() -> None:
    """All of the above looks at the real pages."""
    assert (ROOT / INDEX).is_file()
    assert len(PAGES) > 60
