"""The worker's settings, asked of pydantic: name, default, limits, meaning."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from pages.docstrings import below_fields, meaning
from pages.markdown import code, sentence, table

_BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
_NONSENSE = "?"


def variable(settings: type[BaseSettings], name: str) -> str:
    """Return the environment variable of a field."""
    alias = settings.model_fields[name].validation_alias
    return str(alias) if alias else f"{settings.model_config['env_prefix']}{name.upper()}"


def render(settings: type[BaseSettings]) -> str:
    """Return the table of all fields."""
    said = below_fields(settings)
    rows = [
        (code(variable(settings, name)), _default(field), _limits(field), sentence(meaning(said, name, settings)))
        for name, field in settings.model_fields.items()
    ]
    return table(("variable", "default", "limits", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return code(str(default).lower())
    return code(f"{default:g}" if isinstance(default, float) else str(default))


def _limits(field: FieldInfo) -> str:
    """Say what a value has to be like: by the field's bounds, or by what is said of one that makes no sense."""
    bounds = [
        f"{word} {getattr(bound, name):,}"
        for bound in field.metadata
        for name, word in _BOUNDS.items()
        if getattr(bound, name, None) is not None
    ]
    if bounds:
        return ", ".join(bounds)
    patterns = [bound.pattern for bound in field.metadata if isinstance(getattr(bound, "pattern", None), str)]
    return code(patterns[0]) if patterns else _refusal(field)


def _refusal(field: FieldInfo) -> str:
    kind: Any = field.annotation
    for each in field.metadata:
        kind = Annotated[kind, each]
    try:
        TypeAdapter(kind).validate_python(_NONSENSE)
    except ValidationError as error:
        (problem, *_) = error.errors(include_input=False)
        if problem["type"] == "value_error":
            return str(problem["msg"]).removeprefix("Value error, ").partition(": ")[0]
        if problem["type"].startswith("bool"):
            return "`true` or `false`"
    return ""
