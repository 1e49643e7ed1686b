"""A model that never ends a text by itself, so that every reply has exactly the tokens that were asked for.

The copy shares its weights with the original; only the token that ends a text is another one in it: a special token
that a chat model never says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_NAMES: Final = ("<repo_name>", "<reponame>", "<file_sep>", "<|system|>", "<unk>")
"""Special tokens of SmolLM2, of the tiny model and of the Llamas that stand for nothing in a chat's answer."""


def endless(model: Path, folder: Path) -> Path:
    """Write the copy into `folder` and return it.

    Raises:
        ValueError: the model has no special token that could stand for an end that never comes.
    """
    folder.mkdir(parents=True)
    for file in model.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    tokens = {each["content"]: each["id"] for each in _read(model / "tokenizer.json")["added_tokens"]}
    name = next((name for name in _NAMES if name in tokens), None)
    if name is None:
        raise ValueError(f"none of {', '.join(_NAMES)} is a special token of {model.name}")
    _change(folder / "tokenizer_config.json", eos_token=name)
    for config in (folder / "config.json", folder / "generation_config.json"):
        if config.exists():
            _change(config, eos_token_id=tokens[name])
    return folder


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return content


def _change(file: Path, **values: object) -> None:
    content = _read(file) | values
    file.unlink()  # the link, not what it leads to
    file.write_text(json.dumps(content), "utf-8")
