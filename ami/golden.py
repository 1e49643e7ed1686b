"""The golden prompt, and asking it over the worker's OpenAI API on the loopback."""

from __future__ import annotations

import http.client
import json
import re
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotProven(Exception):
    """No proof; the message says what was wrong."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A prompt, and the words that the answer must have at temperature 0."""

    prompt: str
    words: tuple[str, ...]
    max_tokens: int

    @classmethod
    def read(cls, path: Path, name: str) -> Golden:
        """Read one entry of a file such as golden.json.

        Raises:
            ValueError: there is none.
        """
        entries = json.loads(path.read_text(encoding="utf-8"))
        try:
            entry = entries[name]
            return cls(entry["prompt"], tuple(entry["words"]), int(entry["max_tokens"]))
        except (KeyError, TypeError):
            raise ValueError(f"{path} has no entry {name} with prompt, words and max_tokens") from None

    def is_answered_by(self, text: str) -> bool:
        """Tell whether all words are there, in whatever case."""
        return all(word.casefold() in text.casefold() for word in self.words)


class Api:
    """The worker's HTTP side on the loopback."""

    def __init__(self, port: int, key: str, give_up_at: float) -> None:
        """Take the monotonic time after which nothing is waited for any more."""
        self._port = port
        self._key = key
        self.give_up_at = give_up_at

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask for something; `OSError` and `HTTPException` are the caller's."""
        with closing(self._connect()) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._key}"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def health(self) -> dict[str, Any]:
        """Return what `/healthz` says, nothing while nobody answers."""
        with suppress(OSError, http.client.HTTPException):
            found: dict[str, Any] = json.loads(self.get("/healthz")[1])
            return found
        return {}

    def model(self) -> str:
        """Return the name of the model that is served."""
        status, body = self.get("/v1/models")
        if status != http.HTTPStatus.OK:
            raise NotProven(f"/v1/models answers {status}")
        return str(json.loads(body)["data"][0]["id"])

    def ask(self, golden: Golden, model: str) -> tuple[float, str]:
        """Stream the answer to a prompt: seconds to its first token, and all of it."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": golden.prompt}],
            "temperature": 0,
            "max_tokens": golden.max_tokens,
            "stream": True,
        }
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        began = time.monotonic()
        first: float | None = None
        text = ""
        with closing(self._connect()) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise NotProven(f"/v1/chat/completions answers {answer.status}")
            for line in answer:
                data = line.decode().strip().removeprefix("data:").strip()
                if not data.startswith("{"):  # the empty line behind each event, and [DONE]
                    continue
                for choice in json.loads(data).get("choices", []):
                    piece = choice["delta"].get("content") or ""
                    if piece and first is None:
                        first = time.monotonic() - began
                    text += piece
        if first is None:
            raise NotProven("the answer to the golden prompt is empty")
        return first, text

    def boot_phases(self) -> dict[str, float]:
        """Read from `/metrics` what the phases of the boot took."""
        text = self.get("/metrics")[1].decode()
        found = re.findall(r'^tlfif_boot_seconds\{phase="(\w+)"\} (\S+)$', text, re.MULTILINE)
        return {phase: float(seconds) for phase, seconds in found}

    def _connect(self) -> http.client.HTTPConnection:
        left = max(0.1, self.give_up_at - time.monotonic())
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=left)
