"""The step that fetches the model, really run: over file:// and HTTP, safetensors and GGUF, right and wrong."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.model import default_model
from tests.infra.ami_world import Hub, Node


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and answers the first two requests for weights as an overloaded server does."""

    refusals = 2

    def do_GET(self) -> None:
        """Answer."""
        if self.path.endswith(".safetensors") and Quiet.refusals:
            Quiet.refusals -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Return a hub with a model of a few bytes."""
    made = Hub(tmp_path / "hub")
    (made.files / "model.safetensors").write_bytes(b"weights")
    (made.files / "config.json").write_text("{}")
    (made.files / "tokenizer.json").write_text("{}")
    return made


@pytest.fixture
def pinned(node: Node, hub: Hub) -> Node:
    """Return a node that shall have it."""
    hub.pin(node, "model.safetensors", "config.json,tokenizer.json")
    return node


@pytest.fixture
def served(hub: Hub) -> Iterator[str]:
    """Yield the address of that hub over HTTP."""
    Quiet.refusals = 2
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(hub.folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def left(node: Node) -> list[str]:
    """List what there is of a model."""
    return sorted(path.name for path in node.home.glob("model*"))


def sums(node: Node) -> dict[str, str]:
    """Read the hashes beside the model."""
    lines = (node.home / "model.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines if not line.startswith("#"))}


def test_safetensors_are_taken_as_they_are(pinned: Node, hub: Hub) -> None:
    """With what belongs to them, and the hash of every file beside the folder."""
    done = pinned.model(hub.folder.as_uri())

    assert done.returncode == 0, done.stdout
    assert left(pinned) == ["model", "model.sha256"]
    held = {path.name: path.read_bytes() for path in (pinned.home / "model").iterdir()}
    assert held == {path.name: path.read_bytes() for path in hub.files.iterdir()}
    assert sums(pinned) == {name: hashlib.sha256(data).hexdigest() for name, data in held.items()}


def test_weights_are_written_last(pinned: Node, hub: Hub) -> None:
    """On the disk they are one stretch, behind all else."""
    pinned.model(hub.folder.as_uri())
    files = sorted((pinned.home / "model").iterdir(), key=lambda path: path.stat().st_mtime_ns)

    assert files[-1].name == "model.safetensors"


def test_a_server_that_is_overloaded_is_asked_again(pinned: Node, served: str) -> None:
    """A few times."""
    done = pinned.model(served)

    assert done.returncode == 0, done.stdout
    assert Quiet.refusals == 0


def test_the_same_pins_fetch_nothing_the_second_time(pinned: Node, hub: Hub) -> None:
    """Not even a server is wanted; a changed file, or a changed pin, is another matter."""
    pinned.model(hub.folder.as_uri())
    tree = pinned.tree()
    nowhere = "file:///nowhere"

    assert pinned.model(nowhere).returncode == 0
    assert pinned.tree() == tree
    (pinned.home / "model" / "config.json").write_text("[]")
    assert pinned.model(nowhere).returncode == 1
    assert pinned.model(hub.folder.as_uri()).returncode == 0
    pinned.repin(MODEL_SAFETENSORS_REVISION="4567def")
    assert pinned.model(nowhere).returncode == 1


@pytest.mark.parametrize("fault", ["hash", "weights", "beside", "split", "kind"])
def test_what_is_wrong_is_refused_and_nothing_is_left(pinned: Node, hub: Hub, fault: str) -> None:
    """A wrong hash, a missing file, weights in two files, a kind that nobody knows; a good model before it, too."""
    assert pinned.model(hub.folder.as_uri()).returncode == 0
    if fault == "hash":
        pinned.repin(MODEL_SAFETENSORS_SHA256="0" * 64)
    elif fault == "weights":
        pinned.repin(MODEL_SAFETENSORS_FILE="other.safetensors")
    elif fault == "beside":
        pinned.repin(MODEL_SAFETENSORS_BESIDES="config.json,none.json", MODEL_SAFETENSORS_REVISION=hub.REVISION)
        (pinned.home / "model.sha256").unlink()
    elif fault == "split":
        (hub.files / "more.safetensors").write_bytes(b"more")
        pinned.repin(MODEL_SAFETENSORS_BESIDES="config.json,more.safetensors")
        (pinned.home / "model.sha256").unlink()
    else:
        (hub.files / "model.safetensors").rename(hub.files / "model.bin")
        pinned.repin(MODEL_SAFETENSORS_FILE="model.bin")
    done = pinned.model(hub.folder.as_uri())

    assert done.returncode == 1
    assert left(pinned) == []
    assert "model.sh: " in done.stdout


def test_a_gguf_file_becomes_safetensors(node: Node, tmp_path: Path) -> None:
    """Really converted; the worker's engine takes the folder as it is."""
    hub = Hub(tmp_path / "hub")
    (hub.files / "small.gguf").symlink_to(default_model())
    hub.pin(node, "small.gguf")
    done = node.model(hub.folder.as_uri())

    assert done.returncode == 0, done.stdout
    assert left(node) == ["model", "model.sha256"]
    names = {path.name for path in (node.home / "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names == set(sums(node))
    config = json.loads((node.home / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
