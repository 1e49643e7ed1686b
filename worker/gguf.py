"""Turns a GGUF file, which vLLM 0.32 cannot run by itself, into a folder of safetensors: once, then cached.

The conversion runs as `python -m worker.gguf SOURCE TARGET`, so that neither torch nor its gigabyte of memory
ever enters the process that asked.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from worker.errors import SettingsError

log = logging.getLogger(__name__)

_RECIPE: Final = b"float16, no quantization_config, tokenizer and chat template from the GGUF: 1"
"""Part of the cache key: change it with whatever `_convert` does differently."""

_REPORT_SECONDS: Final = 5.0
_ROOT: Final = Path(__file__).resolve().parents[1]


def converted(gguf: Path) -> Path:
    """Return the folder that holds `gguf` as safetensors, converting it now if nobody has done so before.

    Blocks for about 20 s per 100 MB the first time. Two processes may ask at once: the second waits.

    Raises:
        SettingsError: the file is missing, or is no GGUF of a language model that transformers can read.
    """
    try:
        target = _cache_folder() / f"{gguf.stem}-{_digest(gguf)}"
    except OSError as error:
        raise SettingsError([f"TLFIF_MODEL cannot be read: {error}"]) from None
    if not target.is_dir():
        _convert_in_child(gguf.resolve(), target)
    return target


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).resolve() / "tl-fif" / "models"


def _digest(gguf: Path) -> str:
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(_RECIPE)
    return digest.hexdigest()[:12]


def _convert_in_child(gguf: Path, target: Path) -> None:
    began = time.monotonic()
    log.info("converting %s to safetensors, which is done only once", gguf.name)
    with (
        tempfile.TemporaryFile() as output,
        # Nothing is ever written to the child's input: that it closes tells the child that we are gone.
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(gguf), str(target)],
            cwd=_ROOT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as child,
    ):
        while child.poll() is None:
            try:
                child.wait(_REPORT_SECONDS)
            except subprocess.TimeoutExpired:
                log.info("converting %s: %.0f s so far", gguf.name, time.monotonic() - began)
        output.seek(0)
        lines = output.read().decode("utf-8", "replace").strip().splitlines()
    if not target.is_dir():
        log.error("the conversion ended with exit code %d:\n%s", child.returncode, "\n".join(lines[-20:]))
        reason = lines[-1] if lines else f"exit code {child.returncode}"
        raise SettingsError([f"TLFIF_MODEL: {gguf.name} cannot be converted to safetensors: {reason}"])
    log.info("converted %s in %.1f s", gguf.name, time.monotonic() - began)


def _end_with_parent() -> None:
    """End this process when its input is closed, which happens when the process that asked has ended."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin itself: its lock would crash a normal exit
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _convert_once(gguf: Path, target: Path) -> None:
    """Convert unless another process has just done so; a half-written folder never gets the final name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by whatever end of this process
        if target.is_dir():
            return
        shutil.rmtree(partial, ignore_errors=True)
        _convert(gguf, partial)
        partial.rename(target)


def _convert(gguf: Path, target: Path) -> None:
    import torch  # noqa: PLC0415 - the process that asks must not load it
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # float16 keeps more of the dequantised weights than bfloat16 would, for engines that compute in float32.
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float16)
    # The weights are plain numbers by now; with these left in place vLLM would look for quantised ones.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    _end_with_parent()
    _convert_once(Path(sys.argv[1]), Path(sys.argv[2]))
