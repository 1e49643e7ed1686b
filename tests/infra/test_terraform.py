"""The Terraform files: laid out, valid, tested, described; and they name no place of one machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.infra.hcl import blocks
from tests.infra.terraform_world import (
    FOLDER,
    MODULES,
    PROFILES,
    PROVIDER,
    REPOSITORY,
    ROOTS,
    TerraformFailed,
    Workspace,
    find_mirror,
    program,
)

ALL_ROOTS = [".", *ROOTS]
PLACES = [*ALL_ROOTS, *(f"modules/{name}" for name in MODULES)]
ELSEWHERE = re.compile(r"127\.0\.0\.1|\bendpoints?\s*\{|AWS_ENDPOINT|\bmoto\b|plugin|mirror", re.IGNORECASE)

SENTENCE = re.compile(r'"[A-Z].{10,}\."|<<-EOT')
"""A description, or the beginning of one of several lines."""


def sources() -> list[Path]:
    """List what is Terraform's of the repository."""
    return [
        path
        for path in FOLDER.rglob("*")
        if path.suffix in {".tf", ".tfvars", ".hcl"} and ".terraform" not in str(path)
    ]


# Terraform's own word


def test_the_files_are_laid_out_as_terraform_does() -> None:
    """`terraform fmt -recursive` would change nothing."""
    command = [program(), "fmt", "-check", "-recursive", "-diff", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("root", ALL_ROOTS)
def test_a_root_is_valid(workspace: Workspace, root: str) -> None:
    """With every module that it calls."""
    workspace.run("validate", "-no-color", within=root)


def test_an_invalid_file_is_found(tmp_path: Path) -> None:
    """The check can fail, and says where."""
    workspace = Workspace(tmp_path)
    outputs = workspace.folder / "modules" / "replies" / "outputs.tf"
    outputs.write_text(outputs.read_text(encoding="utf-8").replace("aws_s3_bucket.", "aws_s3_bucket.no_such_"))
    workspace.init("modules/replies")
    with pytest.raises(TerraformFailed, match=r"outputs\.tf"):
        workspace.run("validate", "-no-color", within="modules/replies")


@pytest.fixture(scope="module")
def suites(workspace: Workspace, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[str]]]:
    """Yield, by place, what Terraform says of a module's own tests; two run at a time."""

    def run(place: str) -> str:
        if place not in ALL_ROOTS:
            workspace.init(place)
        return workspace.run("test", "-no-color", within=place)

    asked = [item.name for item in request.session.items]
    with ThreadPoolExecutor(2, thread_name_prefix="terraform-test") as threads:
        yield {
            place: threads.submit(run, place)
            for place in PLACES
            if f"{test_a_module_passes_its_own_tests.__name__}[{place}]" in asked
        }


@pytest.mark.parametrize("place", PLACES)
def test_a_module_passes_its_own_tests(suites: dict[str, Future[str]], place: str) -> None:
    """Each has some; they need no account, nor an emulated one."""
    assert list((FOLDER / place / "tests").glob("*.tftest.hcl")), f"terraform/{place}/tests has no test"
    passed = re.search(r"Success! (\d+) passed, 0 failed", suites[place].result())
    assert passed is not None
    assert int(passed[1]) > 0


# Descriptions


@pytest.mark.parametrize("place", PLACES)
def test_every_variable_has_a_type_and_a_description(place: str) -> None:
    """A sentence of its own, not the name again."""
    variables = blocks(FOLDER / place, "variable")
    assert variables
    for name, arguments in variables.items():
        assert "type" in arguments, name
        assert SENTENCE.fullmatch(arguments.get("description", "")), name


@pytest.mark.parametrize("place", PLACES)
def test_every_output_has_a_description(place: str) -> None:
    """A sentence of its own, not the name again."""
    for name, arguments in blocks(FOLDER / place, "output").items():
        assert SENTENCE.fullmatch(arguments.get("description", "")), name


def unread(folder: Path) -> set[str]:
    """Return the variables that nothing but their own validation reads."""
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.tf") if path.name != "variables.tf"]
    return blocks(folder, "variable").keys() - set(re.findall(r"\bvar\.(\w+)", "\n".join(texts)))


@pytest.mark.parametrize("place", PLACES)
def test_every_variable_is_read(place: str) -> None:
    """What can be chosen makes a difference: a root hands it on, a module uses it."""
    assert unread(FOLDER / place) == set()


def test_the_reader_finds_what_is_missing(tmp_path: Path) -> None:
    """The three checks above can fail."""
    (tmp_path / "a.tf").write_text(
        'variable "a" {\n  type = string\n}\n\nvariable "b" {}\n\noutput "c" {\n  value = 1\n}\n'
    )
    assert blocks(tmp_path, "variable") == {"a": {"type": "string"}, "b": {}}
    assert blocks(tmp_path, "output") == {"c": {"value": "1"}}
    assert unread(tmp_path) == {"a", "b"}


# Versions, places


def test_every_module_asks_for_the_same_versions() -> None:
    """One provider for all, from 5.100 on, and the Terraform that knows what the tests use."""
    texts = {
        (FOLDER / place / "versions.tf").read_text(encoding="utf-8").partition("\nprovider")[0].strip()
        for place in PLACES
    }
    (text,) = texts
    assert 'required_version = ">= 1.11"' in text
    assert 'version = "~> 5.100"' in text


def test_no_file_names_a_mirror_or_an_emulator() -> None:
    """What goes to AWS is what is tested; where the tests send it is their own business."""
    found = [
        f"{path.relative_to(FOLDER)}: {hit[0]}"
        for path in sources()
        for hit in ELSEWHERE.finditer(path.read_text("utf-8"))
    ]
    assert found == []
    assert len(sources()) > 40


@pytest.mark.parametrize("text", ["endpoints { s3", "http://127.0.0.1:5000", "plugin-dir", 'AWS_ENDPOINT_URL = "x"'])
def test_the_search_finds(text: str) -> None:
    """The search can fail."""
    assert ELSEWHERE.search(text)


def test_no_lock_of_one_machine_is_kept() -> None:
    """One that was made from a mirror holds the checksum of one platform alone, and shuts out the others."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "terraform"],  # noqa: S607 - wherever git is
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    kept = [name for name in listed.stdout.splitlines() if ".terraform" in name or ".tfstate" in name]
    assert kept == []


def test_a_profile_sets_variables_that_are_there() -> None:
    """Terraform itself only warns of another."""
    known = blocks(FOLDER, "variable")
    for profile in PROFILES:
        text = (FOLDER / "profiles" / f"{profile}.tfvars").read_text(encoding="utf-8")
        assert set(re.findall(r"^(\w+) +=", text, re.MULTILINE)) <= known.keys()


# The mirror


def test_the_mirror_is_where_the_setting_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a folder without the provider is refused rather than overruled."""
    monkeypatch.setenv("TF_PLUGIN_MIRROR", str(tmp_path))
    with pytest.raises(RuntimeError, match="name its folder or unset it"):
        find_mirror()

    binary = tmp_path / PROVIDER / "5.100.0" / "linux_amd64" / "terraform-provider-aws_v5.100.0_x5"
    binary.parent.mkdir(parents=True)
    binary.touch()
    assert find_mirror() == tmp_path
