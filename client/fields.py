"""Typed access to JSON from the service, so that a malformed answer ends as one clear error."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

from client.errors import UnexpectedAnswer

T = TypeVar("T")


class Fields:
    """One JSON object. A miss raises `UnexpectedAnswer` naming the field, never what it held."""

    def __init__(self, value: object, name: str) -> None:
        if not isinstance(value, dict):
            raise _malformed(name, "is not an object")
        self.value: dict[str, Any] = value
        self._name = name

    @classmethod
    def parse(cls, content: bytes, name: str) -> Fields:
        """Read a whole body; `name` is what messages call it."""
        try:
            return cls(json.loads(content), name)
        except (ValueError, RecursionError):
            raise _malformed(name, f"is {len(content)} bytes that are not JSON") from None

    def text(self, name: str) -> str:
        """Return a string."""
        return self._typed(name, str)

    def optional_text(self, name: str) -> str | None:
        """Return a string, or `None` where it is null or absent."""
        return None if self.value.get(name) is None else self.text(name)

    def count(self, name: str) -> int:
        """Return an integer."""
        return self._typed(name, int)

    def number(self, name: str) -> float:
        """Return an integer or a float that is finite, which Python's JSON need not be."""
        value = self._typed(name, int if _is(self.value.get(name), int) else float)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _malformed(f"{self._name}.{name}", "is no finite number")
        return number

    def optional_number(self, name: str) -> float | None:
        """Return an integer or a float, or `None` where it is null or absent."""
        return None if self.value.get(name) is None else self.number(name)

    def part(self, name: str) -> Fields | None:
        """Return an object, or `None` where it is null or absent."""
        value = self.value.get(name)
        return None if value is None else Fields(value, f"{self._name}.{name}")

    def parts(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        items = self._typed(name, list)
        return [Fields(item, f"{self._name}.{name}[{index}]") for index, item in enumerate(items)]

    def _typed(self, name: str, wanted: type[T]) -> T:
        value = self.value.get(name)
        if not _is(value, wanted):
            missing = name not in self.value
            raise _malformed(f"{self._name}.{name}", "is missing" if missing else "has the wrong type")
        assert isinstance(value, wanted)
        return value


def _is(value: object, wanted: type) -> bool:
    """Tell the JSON type; Python alone takes `true` for an integer."""
    return isinstance(value, wanted) and not isinstance(value, bool)


def _malformed(name: str, what: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{name} {what}; check that client and service are of the same version")
