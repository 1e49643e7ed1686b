"""The locks: every file by its hash, one version of a package wherever it runs, and nothing else is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.infra.ci_scripts import FOLDER, load
from tests.infra.terraform_world import REPOSITORY

locks = load("locks")
lock = load("lock")
EXTRAS: dict[str, list[str]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
ALL = [pytest.param(each, id=str(each)) for each in locks.LOCKS]
OURS = [each for each in locks.LOCKS if each is not locks.CHECKOV]
# As requirements.lock explains.
CUDA_ONLY = {"torchvision", "torchaudio", "torchcodec"}
DIGEST, OTHER = "a" * 64, "b" * 64


def versions(each: Any) -> dict[str, str]:
    """Return a lock's names and versions."""
    return {pin.name: pin.version for pin in each.pins()}


# What stands in them


@pytest.mark.parametrize("each", ALL)
def test_each_line_is_a_pin_with_a_hash(each: Any) -> None:
    """Sorted, no package twice; what is no pin and no comment is refused as it is read."""
    pins = each.pins()
    names = [pin.name for pin in pins]

    assert [str(pin) for pin in pins] == sorted(str(pin) for pin in pins)
    assert len(names) == len(set(names)) >= 4


@pytest.mark.parametrize(
    "line",
    [
        *("a==1", f"a>=1 --hash=sha256:{DIGEST}", f"A==1 --hash=sha256:{DIGEST}", f"a_b==1 --hash=sha256:{DIGEST}"),
        *(f"a==1 --hash=sha256:{DIGEST[1:]}", f"a==1 --hash=md5:{DIGEST}", f"a==1+cpu --hash=sha256:{DIGEST}", "-r b"),
    ],
)
def test_a_line_without_a_hash_is_none(line: str) -> None:
    """Nor one with another name than registries compare."""
    assert locks.pin(f"a==1 --hash=sha256:{DIGEST} --hash=sha256:{OTHER}").hashes == (DIGEST, OTHER)
    with pytest.raises(ValueError, match="run: make lock"):
        locks.pin(line)


def test_a_package_has_one_version_wherever_it_runs() -> None:
    """What is tested is what is deployed; checkov's environment is its own."""
    found: dict[str, set[str]] = {}
    for each in OURS:
        for name, version in versions(each).items():
            found.setdefault(name, set()).add(version)

    assert {name: each for name, each in found.items() if len(each) > 1} == {}


def test_a_file_has_one_hash_wherever_it_runs() -> None:
    """A lock allows no file that another one for the same place does not; torch is the CPU's or the GPU's."""
    everything = {pin.name: set(pin.hashes) for pin in locks.EVERYTHING.pins()}
    others = [pin for each in (locks.NODE, locks.TOOLS) for pin in each.pins() if pin.name in everything]

    assert len(others) > 100
    assert {pin.name for pin in others if set(pin.hashes) != everything[pin.name]} == {"torch"}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_a_lock_pins_every_requirement(extra: str) -> None:
    """What pyproject.toml asks for stands in the lock of its place, in a version that it accepts."""
    place = {"gpu": locks.NODE, "lambda": locks.ROUTER, "tools": locks.TOOLS}.get(extra, locks.EVERYTHING)
    for each in {place, locks.EVERYTHING}:
        pins = versions(each)
        for text in lock.requirements(EXTRAS, extra):
            requirement = Requirement(text)
            # The CUDA build of vLLM stands in nobody's CPU lock.
            if requirement.name == "vllm" and each is locks.EVERYTHING:
                continue
            version = pins.get(canonicalize_name(requirement.name))
            assert version is not None, f"{text} is not in {each}; run: make lock"
            assert version in requirement.specifier, f"{version} does not meet {text}; run: make lock"


def test_the_lock_leaves_cuda_builds_out() -> None:
    """The reasons stand at the top of the lock."""
    assert CUDA_ONLY.isdisjoint(versions(locks.EVERYTHING))


def test_the_router_s_lock_holds_no_sdk() -> None:
    """Lambda's runtime brings it; and of python-jose's backends only the one that is used."""
    found = versions(locks.ROUTER).keys()

    assert found.isdisjoint({"boto3", "botocore", *lock.LAMBDA_LEFT_OUT})
    machines = {pin.name: len(pin.hashes) for pin in locks.ROUTER.pins()}
    assert {name for name, count in machines.items() if count > 1} == {"cffi", "cryptography"}
    assert set(machines.values()) == {1, 2}


def test_the_tools_fit_any_machine() -> None:
    """One file each, so none that is compiled for a processor."""
    assert {len(pin.hashes) for pin in locks.TOOLS.pins()} == {1}


# How they are written


def chosen(name: str, version: str, digest: str) -> dict[str, Any]:
    """Return what pip reports of a file."""
    return {
        "metadata": {"name": name, "version": version},
        "download_info": {"archive_info": {"hashes": {"sha256": digest}}},
    }


def test_the_files_of_two_places_stand_in_one_line() -> None:
    """Sorted, without local versions and without what is left out."""
    one = {"b": chosen("b", "2+cpu", OTHER), "c": chosen("c", "1", DIGEST)}
    two = {"b": chosen("b", "2+cpu", DIGEST), "a": chosen("a", "1", DIGEST)}

    assert lock.lines(one, two, without={"c"}) == [
        f"a==1 --hash=sha256:{DIGEST}",
        f"b==2 --hash=sha256:{DIGEST} --hash=sha256:{OTHER}",
    ]


def test_two_versions_of_a_package_are_refused() -> None:
    """Two places cannot have two."""
    with pytest.raises(ValueError, match="pip chose a 1 for one place and 2 for another"):
        lock.lines({"a": chosen("a", "1", DIGEST)}, {"a": chosen("a", "2", DIGEST)})


def test_versions_are_kept_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--keep` tells pip every version there is; without it only what requirements.lock has binds the others."""
    told: list[set[str]] = []

    def resolve(wanted: Any, place: Any, constraints: Any, pip_arguments: Any) -> dict[str, Any]:
        told.append(set(constraints))
        return {}

    monkeypatch.setattr(lock, "resolve", resolve)
    for keep in (False, True):
        run = lock.Locking(EXTRAS, [], keep)
        run.everything()
        run.gpu()
    fresh, _, shared, kept, _, all_kept = told

    everything, node = set(lock.versions(locks.EVERYTHING)), set(lock.versions(locks.NODE))
    assert fresh == set()
    assert kept == everything
    assert "torch===" + versions(locks.EVERYTHING)["torch"] in shared
    assert len(shared) == len(everything)
    assert all_kept == shared | {pin for pin in node if not pin.startswith("torch==")}


def test_a_place_has_wheels_for_its_glibc_and_no_newer() -> None:
    """Amazon Linux 2023's, on both processors."""
    options = lock.Place("python", "aarch64").options()

    assert "--platform=manylinux_2_34_aarch64" in options
    assert "--platform=manylinux2014_aarch64" in options
    assert not [each for each in options if re.search(r"manylinux_2_3[5-9]|x86", each)]


def test_the_locks_are_for_one_python(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Another one would choose other files."""
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))

    assert lock.main([]) == 2
    assert "run this with it" in capsys.readouterr().err


# How they are installed


@pytest.mark.parametrize(
    "name", [".ci/setup", ".ci/lambda_package.py", "tests/infra/checkov_world.py", "ami/provision/python.sh"]
)
def test_whoever_installs_asks_for_hashes(name: str) -> None:
    """And for nothing that is not in the lock."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")

    assert "--require-hashes" in text
    assert "--no-deps" in text


def test_no_lock_goes_to_pip_without_its_hashes() -> None:
    """As constraints, where hashes would be asked of everything, the versions alone are given."""
    found = []
    for path in sorted((REPOSITORY / ".ci").glob("*")) + sorted((REPOSITORY / "benchmarks").glob("*.sh")):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            found += [f"{path.name}: {hit}" for hit in re.findall(r"pip install .*-c requirements\.lock.*", text)]

    assert found == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return what `.ci/setup tools` needs, in an empty folder."""
    (tmp_path / ".ci").mkdir()
    for name in ("setup", "tools.lock"):
        shutil.copy(FOLDER / name, tmp_path / ".ci")
    return tmp_path


def set_up(checkout: Path, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up of a checkout."""
    command = [str(checkout / ".ci" / "setup"), what]
    given = {**os.environ, "PYTHON": sys.executable, **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def test_the_tools_are_set_up_once(checkout: Path) -> None:
    """All of the lock, and nothing else but what Python brings; a second time nothing happens."""
    first = set_up(checkout, "tools")
    assert first.returncode == 0, first.stderr
    listing = [str(checkout / ".venv-tools" / "bin" / "python"), "-m", "pip", "list", "--format=freeze"]
    listed = (
        subprocess.run(listing, capture_output=True, text=True, check=True).stdout.lower().replace("_", "-").split()
    )
    mark = checkout / ".venv-tools" / "mark"
    mark.touch()
    again = set_up(checkout, "tools")

    assert set(listed) - set(lock.versions(locks.TOOLS)) <= {
        each for each in listed if re.match("(pip|setuptools)==", each)
    }
    assert set(lock.versions(locks.TOOLS)) <= set(listed)
    assert (again.returncode, again.stdout, mark.exists()) == (0, "", True)


def test_another_file_is_refused(checkout: Path) -> None:
    """One wrong digit in a hash; the next set-up starts over, and with another lock so does a finished one."""
    path = checkout / ".ci" / "tools.lock"
    text = path.read_text()
    (line,) = re.findall("^six==.*", text, re.MULTILINE)
    path.write_text(f"{line[:-1]}{'0' if line[-1] != '0' else '1'}\n")
    refused = set_up(checkout, "tools")
    mark = checkout / ".venv-tools" / "mark"
    mark.touch()
    path.write_text(f"{line}\n")
    mended = set_up(checkout, "tools")

    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert "all of pip's words are in .venv-tools/setup.log" in refused.stderr
    assert (mended.returncode, mark.exists()) == (0, False)


@pytest.mark.parametrize(
    ("what", "python", "expected"),
    [
        ("tools", "false", "found no working Python 3.11 or newer with venv"),
        ("venv", "false", "found no working Python 3.11 with venv"),
        ("all", sys.executable, "nothing called 'all' to set up"),
    ],
)
def test_a_set_up_that_cannot_be(checkout: Path, what: str, python: str, expected: str) -> None:
    """Says why, and leaves nothing behind."""
    done = set_up(checkout, what, PYTHON=python)

    assert done.returncode == 1
    assert expected in done.stderr
    assert sorted(path.name for path in checkout.iterdir()) == [".ci"]
