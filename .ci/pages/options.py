"""The options of a command line, asked of argparse."""
# ruff: noqa: SLF001 - argparse has no public way to ask what a parser takes

from __future__ import annotations

import argparse
import re

from pages.markdown import code, sentence, table


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the subcommands of a parser by their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def render(parser: argparse.ArgumentParser) -> str:
    """Return the table of what a parser takes."""
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        expanded = parser._get_formatter()._expand_help(action) if action.help else ""
        meaning, default = _split(expanded, action)
        rows.append((_usage(action), default, sentence(meaning)))
    return table(("option", "default", "meaning"), rows)


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        name = action.dest.upper()
        return code(f"[{name}]" if action.nargs == "?" else name)
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(action.choices or [action.dest.upper()]))
    return code(f"{action.option_strings[-1]} {value}".strip())


def _split(said: str, action: argparse.Action) -> tuple[str, str]:
    """Take the default out of what an option's help says, where it is said."""
    found = re.search(r" \(default:? ([^)]+)\)", said)
    if not found:
        return said, "" if action.nargs == 0 or not action.option_strings else "none"
    default = re.sub(r"\b(TLFIF_\w+)\b", r"`\1`", found[1])
    return said.replace(found[0], ""), default if "`" in default else code(default)
