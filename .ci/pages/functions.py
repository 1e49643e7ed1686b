"""The settings of the Lambdas, found out by asking the classes that read them.

Such a class is given an environment that notes what it is asked for. What is missing, wrong or changed in it shows in
what the class says or builds: which variables are needed, their defaults and limits, and which field each ends up in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from pages.docstrings import attributes, meaning
from pages.markdown import code, sentence, table
from router_lambda import settings as of_requests
from router_lambda import watch_settings
from router_lambda.settings import RouterConfigError

FOLDER: Final = Path(of_requests.__file__).parent

_SAMPLES: Final = (
    *("redis://host:6379/0", "redis://other:6379/0", "https://host/path", "https://other/path", "12.5", "7", "12"),
    *("name=value", "192.0.2.0/24", "1"),
)
"""Values of which every variable takes two at least, or one besides its default."""

_NONSENSE: Final = "?"
_HERE: Final = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333"}
"""What is allowed on this machine alone is asked for too."""

_OURS: Final = "TL"
"""How our variables begin; the others are the SDK's or Lambda's."""


class NotFoundOut(Exception):
    """No sample fits a variable, or none changes anything; the message says what to do."""


class _Noted(Mapping[str, str]):
    """An environment that notes which variables it is asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values_ = values
        self.asked: dict[str, None] = {}

    def __getitem__(self, name: str) -> str:
        self.asked[name] = None
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@dataclass(frozen=True, slots=True)
class Variable:
    """What was found out; `field` is `None` where it goes into another class's settings alone."""

    name: str
    default: str
    limits: str
    field: tuple[type, str] | None


def classes() -> list[type]:
    """Return every class of settings that reads the environment, in the order of the sources."""
    return [
        each
        for module in (of_requests, watch_settings)
        for each in vars(module).values()
        if isinstance(each, type) and hasattr(each, "from_environment") and each.__module__ == module.__name__
    ]


def functions(folder: Path = FOLDER) -> dict[str, list[str]]:
    """Return the functions that read each class: the calls in the modules that have a handler."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not any(isinstance(node, ast.FunctionDef) and node.name == "handler" for node in tree.body):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "from_environment" and isinstance(node.value, ast.Name):
                name = "router" if path.stem == "handler" else path.stem.replace("_", " ")
                found.setdefault(node.value.id, []).append(name)
    return found


def variables(of: type) -> list[Variable]:
    """Find out what a class reads."""
    start, needed = _base(of)
    base = _built(of, start)
    names = [name for name in _asked(of, start) if name.startswith(_OURS)]
    changes = {name: _changes(of, start, base, name) for name in names}
    alone = {next(iter(each)) for each in changes.values() if len(each) == 1}
    found = []
    for name in names:
        mine = changes[name] if len(changes[name]) == 1 else changes[name] - alone
        field = next(iter(mine)) if len(mine) == 1 else None
        default = "required" if name in needed else _default(base, field)
        owner = _owner(base, field) if field else None
        found.append(Variable(name, default, _limits(of, start, name), owner))
    return found


def render() -> str:
    """Return a part for each class, named by the functions that read it."""
    users = functions()
    found = {each: variables(each) for each in classes()}
    # A class may read a variable for another one's sake: then that one says what it means.
    elsewhere = {variable.name: variable.field for listed in found.values() for variable in listed if variable.field}
    parts = []
    for each, listed in found.items():
        rows = []
        for variable in listed:
            of, field = variable.field or elsewhere[variable.name]
            said = sentence(meaning(attributes(of), field, of))
            rows.append((code(variable.name), variable.default, variable.limits, said))
        title = " and ".join(users.get(each.__name__, [])) or each.__name__
        head = ("variable", "default", "limits", "meaning")
        parts.append(f"### {title[0].upper()}{title[1:]}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


# How a class is asked


def _problems(of: Any, values: Mapping[str, str]) -> list[str]:
    try:
        of.from_environment(values)
    except RouterConfigError as error:
        return error.problems
    return []


def _built(of: Any, values: Mapping[str, str]) -> Any:
    return of.from_environment(values)


def _asked(of: Any, values: Mapping[str, str]) -> list[str]:
    noted = _Noted(values)
    with suppress(RouterConfigError):
        of.from_environment(noted)
    return list(noted.asked)


def _names(problem: str) -> str:
    (name, *_) = re.findall(r"\bTL[A-Z0-9_]+\b", problem)
    return str(name)


def _base(of: type) -> tuple[dict[str, str], list[str]]:
    """Return the least environment that is taken, and what has to be in it."""
    values = dict(_HERE)
    needed = [_names(problem) for problem in _problems(of, values)]
    for name in needed:
        values[name] = next(_fitting(of, values, name))
    return values, needed


def _fitting(of: type, values: Mapping[str, str], name: str) -> Iterator[str]:
    """Yield the samples that a variable takes, whatever is wrong with the others.

    Raises:
        NotFoundOut: there is none.
    """
    fits = False
    for sample in _SAMPLES:
        if not any(_names(problem) == name for problem in _problems(of, {**values, name: sample})):
            fits = True
            yield sample
    if not fits:
        raise NotFoundOut(f"add a value that {name} takes to _SAMPLES in .ci/pages/functions.py")


def _changes(of: type, values: dict[str, str], base: Any, name: str) -> set[str]:
    """Return the paths of what is different with another value of a variable."""
    before = _leaves(base)
    for sample in _fitting(of, values, name):
        with suppress(RouterConfigError):
            after = _leaves(_built(of, {**values, name: sample}))
            changed = {path for path in before.keys() & after.keys() if before[path] != after[path]}
            if changed:
                return changed
    return set()


def _leaves(built: Any, path: str = "") -> dict[str, Any]:
    """Return every value by its path; what is settings or none by turns is no value."""
    found: dict[str, Any] = {}
    for field in fields(built):
        value = getattr(built, field.name)
        if is_dataclass(value):
            found |= _leaves(value, f"{path}{field.name}.")
        else:
            found[path + field.name] = value
    return found


def _owner(base: Any, path: str) -> tuple[type, str]:
    *outer, name = path.split(".")
    for step in outer:
        base = getattr(base, step)
    return type(base), name


def _default(base: Any, path: str | None) -> str:
    value = _leaves(base)[path] if path else None
    if value is None or value is False:
        return "none"
    if isinstance(value, tuple):
        return code(("=" if all(isinstance(each, str) for each in value) else ",").join(map(str, value)))
    return code(f"{value:g}" if isinstance(value, float) else str(value))


def _limits(of: type, values: dict[str, str], name: str) -> str:
    """Say what a value has to be like, by what is said of one that makes no sense."""
    for problem in _problems(of, {**values, name: _NONSENSE}):
        if _names(problem) == name:
            said = re.sub(rf"^\w+ {name}:? (?:to )?", "", problem)
            return said.removeprefix(f"'{_NONSENSE}' does not appear to be ")
    return ""
