"""The Lambda packages: built to the same bytes each time, with what belongs in them and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lambda_world import BUILDER, REPOSITORY, build, builder, runtime

MOST_BYTES = 6_500_000
MACHINES = {"x86_64": 62, "arm64": 183}  # e_machine in <elf.h>: EM_X86_64, EM_AARCH64
LAMBDA_GLIBC = 34  # Amazon Linux 2023 has glibc 2.34

# Prints what is imported from where, after every module of ours and the RS256 verification of python-jose.
IMPORT_ALL = """
import json, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import router_lambda
for module in pkgutil.iter_modules(router_lambda.__path__):
    __import__(f"router_lambda.{module.name}")
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
known = sys.stdlib_module_names
print(json.dumps({name: file for name, file in files.items() if file and name.split(".")[0] not in known}))
"""


@pytest.fixture(params=MACHINES)
def package(request: pytest.FixtureRequest, packages: Path) -> Iterator[zipfile.ZipFile]:
    """Yield one zip, open."""
    with zipfile.ZipFile(packages / f"tl-fif-router-{request.param}.zip") as archive:
        yield archive


# The build


def test_two_builds_are_the_same_bytes(sources: Path, packages: Path, tmp_path: Path) -> None:
    """Neither the folder, nor the time, nor the hash seed, nor the file times get into a package."""
    elsewhere = shutil.copytree(
        sources, tmp_path / "some" / "where" / "else", ignore=shutil.ignore_patterns("dist"), copy_function=shutil.copy
    )

    printed = build(elsewhere, PYTHONHASHSEED="2", PYTHONOPTIMIZE="1", TZ="Asia/Tokyo")

    for line, architecture in zip(printed.splitlines(), MACHINES, strict=True):
        name = f"tl-fif-router-{architecture}.zip"
        assert (elsewhere / "dist" / name).read_bytes() == (packages / name).read_bytes()
        assert re.fullmatch(rf"dist/{name}  [0-9,]+ bytes  sha256 [0-9a-f]{{64}}", line)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [("1790000000", (2026, 9, 21, 14, 13, 20)), ("0", (1980, 1, 1, 0, 0, 0)), ("", (1980, 1, 1, 0, 0, 0))],
)
def test_a_build_takes_its_time_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str, expected: tuple[int, ...]
) -> None:
    """SOURCE_DATE_EPOCH, where it is set, stands at every entry; a zip knows no time before 1980."""
    monkeypatch.setattr(builder(), "download", lambda *_: [])
    monkeypatch.setattr(builder(), "fill", lambda folder, *_: (folder / "file").touch())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)

    with zipfile.ZipFile(builder().build("arm64", Path("python"), tmp_path)) as archive:
        assert [entry.date_time for entry in archive.infolist()] == [expected]


def test_a_time_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to write it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(builder().PackagingFailed, match="whole Unix seconds; it is today"):
        builder().build("arm64", Path("python"), tmp_path)


def test_a_file_that_is_not_the_lock_s_is_refused(sources: Path, tmp_path: Path) -> None:
    """One wrong digit in one hash, and nothing is built."""
    changed = shutil.copytree(sources, tmp_path / "changed", ignore=shutil.ignore_patterns("dist"))
    lock = changed / ".ci" / "lambda.lock"
    lock.write_text(
        re.sub(
            r"(^redis==.*)(.)$",
            lambda found: found[1] + f"{(int(found[2], 16) + 1) % 16:x}",
            lock.read_text(),
            flags=re.MULTILINE,
        )
    )

    done = subprocess.run(
        [sys.executable, str(BUILDER.relative_to(REPOSITORY))], cwd=changed, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "lambda-package: pip could not fetch the wheels for x86_64" in done.stderr
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not list((changed / "dist").glob("*.zip"))


def test_a_package_says_its_version(package: zipfile.ZipFile) -> None:
    """In the description of the API; so that two versions are never the same bytes."""
    described = package.read("router_lambda/openapi.yaml").decode()
    version = (REPOSITORY / "VERSION").read_text(encoding="utf-8").strip()

    assert f"\n  version: {version}\n" in described


def test_a_package_is_small_enough(package: zipfile.ZipFile) -> None:
    """Lambda fetches it at every cold start."""
    assert package.filename is not None
    assert Path(package.filename).stat().st_size <= MOST_BYTES


def test_entries_are_plain_readable_files_in_order(package: zipfile.ZipFile) -> None:
    """Lambda's user is not the owner of the files."""
    entries = package.infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(names, key=Path)
    assert {(entry.external_attr >> 16, entry.create_system, entry.date_time) for entry in entries} == {
        (0o100644, 3, (1980, 1, 1, 0, 0, 0))
    }


# What is in them


def test_a_package_holds_the_router_and_its_dependencies_alone(package: zipfile.ZipFile) -> None:
    """All of the lock and no more: no boto3, which the runtime brings; and no tests."""
    top = {name.split("/")[0] for name in package.namelist()}
    pins = re.findall(r"^([a-z-]+)==(\S+)", (REPOSITORY / ".ci" / "lambda.lock").read_text(), re.MULTILINE)
    locked = {f"{name.replace('-', '_')}-{version}.dist-info" for name, version in pins}

    assert len(locked) == 4
    extension = {name for name in top if name.startswith("_cffi_backend.cpython-312-")}
    assert len(extension) == 1
    assert top - extension == locked | {"redis", "jose", "cryptography", "router_lambda"}
    assert {Path(name).suffix for name in package.namelist()} <= {".py", ".pyc", ".so", ".yaml", "", ".APACHE", ".BSD"}
    assert not [name for name in package.namelist() if "/tests/" in name]


def test_every_dependency_comes_with_its_licence(package: zipfile.ZipFile) -> None:
    """Whoever hands on the package hands on the terms as well."""
    names = package.namelist()
    for folder in {name.split("/")[0] for name in names if ".dist-info/" in name}:
        assert f"{folder}/METADATA" in names
        assert any("LICEN" in name.removeprefix(folder) for name in names if name.startswith(f"{folder}/"))


def test_the_router_is_whole(package: zipfile.ZipFile, sources: Path) -> None:
    """Every module as source and as bytecode, and the description of the API."""
    modules = {path.stem for path in (sources / "router_lambda").glob("*.py")}
    expected = {f"router_lambda/{name}.py" for name in modules}
    expected |= {f"router_lambda/__pycache__/{name}.cpython-312.pyc" for name in modules}

    assert {name for name in package.namelist() if name.startswith("router_lambda/")} == expected | {
        "router_lambda/openapi.yaml"
    }


def test_all_code_is_bytecode_that_is_never_checked(package: zipfile.ZipFile) -> None:
    """Lambda can write none: what came without would be compiled at every cold start."""
    compiled = [name for name in package.namelist() if name.endswith(".pyc")]
    sources = [name for name in package.namelist() if name.endswith(".py")]

    assert all(name.startswith("router_lambda/") for name in sources)
    assert len(compiled) > 150
    for name in compiled:
        content = package.read(name)
        # Magic number of CPython 3.12, then the flags: hash-based, not to be checked (PEP 552).
        assert struct.unpack("<HH", content[:4])[0] == 3531, name
        assert struct.unpack("<I", content[4:8]) == (1,), name
        source = name.replace("__pycache__/", "").removesuffix("c").replace(".cpython-312", "")
        assert len(content) < 200 or f"/var/task/{source}".encode() in content, name


def test_extension_modules_fit_the_processor_and_lambda_s_glibc(package: zipfile.ZipFile) -> None:
    """A wheel for another machine would be found out by the first request only."""
    assert package.filename is not None
    architecture = Path(package.filename).stem.removeprefix("tl-fif-router-")
    extensions = [name for name in package.namelist() if name.endswith(".so")]

    assert len(extensions) >= 2
    for name in extensions:
        content = package.read(name)
        assert content[:4] == b"\x7fELF"
        assert struct.unpack("<H", content[18:20]) == (MACHINES[architecture],)
        assert max(int(found) for found in re.findall(rb"GLIBC_2\.(\d+)", content)) <= LAMBDA_GLIBC


def test_everything_is_imported_from_the_package_or_the_standard_library(unpacked: Path) -> None:
    """Nothing that was left out is missed, boto3 included."""
    command = [str(runtime().python), "-I", "-S", "-B", "-c", IMPORT_ALL, str(unpacked)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files: dict[str, str] = json.loads(printed)

    assert {name.split(".")[0] for name in files} - {"__main__"} <= {
        *("router_lambda", "redis", "jose", "cryptography", "_cffi_backend"),
    }
    assert all(Path(file).is_relative_to(unpacked) for file in files.values())
    assert {"router_lambda.handler", "router_lambda.authorizer", "jose.jwk", "redis.client"} <= files.keys()
