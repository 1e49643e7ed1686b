"""The tiny model's files."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.numpy import load_file
from tokenizers import Tokenizer

from local.tiny_model import write_tiny_model


def test_every_text_survives_the_tokenizer(tmp_path: Path) -> None:
    """Text of any script, emoji with joiners, control characters and blanks come back as they went in."""
    tokenizer = Tokenizer.from_file(str(write_tiny_model(tmp_path) / "tokenizer.json"))
    text = "  Grüße, 日本語 👩‍👩‍👧\n\t\x00\u2028 end "
    tokens = tokenizer.encode(text).ids
    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens) == text


def test_specials_are_one_token_each(tmp_path: Path) -> None:
    """The words of the chat template and the end of text have ids of their own."""
    folder = write_tiny_model(tmp_path)
    end = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("<|end|>").ids
    assert end == [json.loads((folder / "config.json").read_text())["eos_token_id"]]


def test_same_weights_each_time(tmp_path: Path) -> None:
    """Two machines that make it have the same model, with a row of embeddings for each token."""
    first, second = (write_tiny_model(tmp_path / name) for name in ("a", "b"))
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()
    rows = load_file(first / "model.safetensors")["model.embed_tokens.weight"].shape[0]
    assert rows == json.loads((first / "config.json").read_text())["vocab_size"]
