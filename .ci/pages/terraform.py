"""What can be chosen in Terraform, read from the roots' variables and from the modules that they are handed to.

`terraform fmt` lays the files out in one way, which is all that is understood here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pages.markdown import code, sentence, table

_BLOCK: Final = re.compile(r'^(variable|module) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_ARGUMENT: Final = re.compile(r"^  (\w+) += (.*(?:\n(?:    .*|  [\])}].*))*)", re.MULTILINE)
_SAID: Final = re.compile(r'^    error_message = "(.*)"$', re.MULTILINE)


@dataclass(slots=True)
class Variable:
    """A root's variable; `default` is `None` where it has none."""

    description: str
    type: str
    default: str | None
    limits: list[str] = field(default_factory=list)


def variables(root: Path) -> dict[str, Variable]:
    """Return a root's variables; what its modules ask of a value that is handed to them is among the limits."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("*.tf")))
    found, modules = {}, []
    for kind, name, body in _BLOCK.findall(text):
        arguments = dict(_ARGUMENT.findall(body))
        if kind == "module":
            modules.append(arguments)
            continue
        description = _text(arguments.get("description", ""))
        found[name] = Variable(description, _type(arguments.get("type", "")), arguments.get("default"), _limits(body))
    for arguments in modules:
        folder = root / _text(arguments["source"])
        asked = variables(folder) if folder.is_dir() else {}
        for name, value in arguments.items():
            handed = re.fullmatch(r"var\.(\w+)", value)
            if handed and name in asked and not found[handed[1]].limits:
                found[handed[1]].limits = asked[name].limits
    return found


def render(root: Path) -> str:
    """Return the table of a root's variables, those without a default first."""
    listed = sorted(variables(root).items(), key=lambda each: each[1].default is not None)
    rows = [
        (code(name), code(each.type), _default(each.default), sentence(each.description), " ".join(each.limits))
        for name, each in listed
    ]
    return table(("variable", "type", "default", "meaning", "otherwise it says"), rows)


def profiles(folder: Path) -> str:
    """Return the table of what each profile sets."""
    values = {
        path.stem: dict(re.findall(r"^(\w+) += (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in sorted(folder.glob("*.tfvars"))
    }
    names = list(dict.fromkeys(name for each in values.values() for name in each))
    rows = [(code(name), *(code(_text(each.get(name, ""))) for each in values.values())) for name in names]
    return table(("variable", *(code(f"{name}.tfvars") for name in values)), rows)


def _text(value: str) -> str:
    """Return a string without its quotes."""
    return value[1:-1].replace('\\"', '"').replace("$${", "${") if value.startswith('"') else value


def _type(value: str) -> str:
    """Return a type on one line, its fields with commas between."""
    lines = [" ".join(each.split()) for each in value.split("\n")]
    return re.sub(r"([({]), |, ([})])", r"\1\2", ", ".join(lines))


def _default(value: str | None) -> str:
    return "required" if value is None else "none" if value in {"null", "[]", "{}"} else code(" ".join(value.split()))


def _limits(body: str) -> list[str]:
    return [_text(f'"{said}"') for said in _SAID.findall(body)]
