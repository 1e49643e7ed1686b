"""The meaning of a setting, out of the source of the class that has it."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap


class Unexplained(Exception):
    """A setting has no docstring; the message says where to write one."""


def below_fields(of: type) -> dict[str, str]:
    """Return what stands in a string below each field of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(of))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, behind in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = behind.value if isinstance(behind, ast.Expr) else None
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                found[field.target.id] = " ".join(said.value.split())
    return found


def attributes(of: type) -> dict[str, str]:
    """Return what the part `Attributes:` of a class's docstring says of each field."""
    text = inspect.getdoc(of) or ""
    _, _, listed = text.partition("Attributes:\n")
    listed = re.split(r"\n\n", listed)[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in entries}


def meaning(known: dict[str, str], field: str, of: type) -> str:
    """Return what is said of a field.

    Raises:
        Unexplained: nothing is.
    """
    if field not in known:
        raise Unexplained(f"say in the docstring of {of.__module__}.{of.__name__} what `{field}` means")
    return known[field]
