"""The version: raise it everywhere it stands, and tell whether a change asks for a new one.

    version.py bump patch      or minor, major or a version such as 1.0.0 (`make bump PART=…`)
    version.py check           every place says the same; with --base REF also whether it had to rise since then
    version.py notes           what CHANGELOG.md says of this version, or of another: notes 0.8.0

Needs nothing but Python 3.11's standard library and, for --base, git.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PARTS: Final = ("major", "minor", "patch")
SEMANTIC: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")

SHIPPED: Final = (
    *("ami/", "client/", "local/", "router_lambda/", "supervisord/", "terraform/", "worker/"),
    *(".ci/lambda.lock", ".ci/lambda_package.py", ".ci/tools.lock", "pyproject.toml", "requirements.lock"),
)
"""Where a change can be noticed by users or whoever runs the system."""
UNNOTICED: Final = re.compile(r"\.md$|(^|/)tests/")
"""But for these, wherever they are."""

UNRELEASED: Final = "## [Unreleased]\n"
HEADING: Final = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\S+))?$", re.MULTILINE)
OPENAPI_LINE: Final = re.compile(r"(?<=^  version: ).*$", re.MULTILINE)

Version = tuple[int, int, int]


class VersionFault(Exception):
    """The versions cannot stay or become what was asked for; the message says what to do about it."""


def parse(text: str) -> Version:
    """Read a semantic version.

    Raises:
        VersionFault: it is none.
    """
    found = SEMANTIC.fullmatch(text.strip())
    if not found:
        raise VersionFault(f"write a version as three numbers, such as 1.2.3; this is {text.strip() or 'empty'}")
    return int(found[1]), int(found[2]), int(found[3])


def raised(current: Version, part: str) -> Version:
    """Return the version after a bump of `part`, which is a part's name or a greater version.

    Raises:
        VersionFault: it is neither.
    """
    major, minor, patch = current
    after = {"major": (major + 1, 0, 0), "minor": (major, minor + 1, 0), "patch": (major, minor, patch + 1)}
    try:
        wanted = after.get(part) or parse(part)
    except VersionFault:
        raise VersionFault(f"raise patch, minor, major or to a version such as 1.2.3, and not {part}") from None
    if wanted <= current:
        raise VersionFault(f"{written(wanted)} is not above {written(current)}; versions only rise")
    return wanted


def written(version: Version) -> str:
    """Return a version as text."""
    return ".".join(map(str, version))


def part_of(changelog: str, name: str) -> str | None:
    """Return what stands below the heading of a version, or of `Unreleased`; None where there is none."""
    headings = list(HEADING.finditer(changelog))
    for number, heading in enumerate(headings):
        if heading["version"] == name:
            end = headings[number + 1].start() if number + 1 < len(headings) else len(changelog)
            return changelog[heading.end() : end].strip()
    return None


def released(changelog: str, version: str, today: date) -> str:
    """Return the changelog with what was unreleased put below a version and a day.

    Raises:
        VersionFault: there is nothing to release, or no place for it.
    """
    if UNRELEASED not in changelog:
        raise VersionFault(f"CHANGELOG.md lacks the line {UNRELEASED.strip()}; write it above the newest version")
    if not part_of(changelog, "Unreleased"):
        raise VersionFault("CHANGELOG.md says nothing below [Unreleased]; write there what changed for users")
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {today.isoformat()}\n", 1)


def bump(root: Path, part: str, today: date) -> str:
    """Raise the version in all its places, or in none, and return it.

    Raises:
        VersionFault: with what to do.
    """
    if faults := disagreements(root):
        raise VersionFault("\n".join([*faults, "set these right before the version rises"]))
    after = written(raised(parse(_read(root, "VERSION")), part))
    openapi = OPENAPI_LINE.sub(after, _read(root, "router_lambda/openapi.yaml"), count=1)
    changelog = released(_read(root, "CHANGELOG.md"), after, today)
    texts = {"VERSION": after + "\n", "router_lambda/openapi.yaml": openapi, "CHANGELOG.md": changelog}
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    return after


def disagreements(root: Path) -> list[str]:
    """Say where a version stands that is not the one of the file VERSION, or none."""
    version = written(parse(_read(root, "VERSION")))
    described = OPENAPI_LINE.search(_read(root, "router_lambda/openapi.yaml"))
    newest = next((each for each in HEADING.finditer(_read(root, "CHANGELOG.md")) if each["date"]), None)
    stands: dict[str, str | None] = {
        "router_lambda/openapi.yaml: info.version": described[0] if described else None,
        "CHANGELOG.md: the newest version": newest["version"] if newest else None,
    }
    return [f"{where} is {found}, and VERSION {version}" for where, found in stands.items() if found != version]


def noticed(names: list[str]) -> list[str]:
    """Return those of the changed files that users or whoever runs the system can notice."""
    return [name for name in names if name.startswith(SHIPPED) and not UNNOTICED.search(name)]


def lacking(root: Path, base: str) -> str | None:
    """Say that the version had to rise since `base`, where it had to and did not.

    Raises:
        VersionFault: git does not know `base`.
    """
    before, now = parse(_git(root, "show", f"{base}:VERSION")), parse(_read(root, "VERSION"))
    if now < before:
        return f"VERSION is {written(now)} and {base} has {written(before)}; versions only rise. Merge {base} first"
    # From where the branch began: what others changed on `base` since then is theirs to count.
    begin = _git(root, "merge-base", base, "HEAD").strip()
    changed = noticed(_git(root, "diff", "--name-only", "--no-renames", begin).splitlines())
    if now > before or not changed:
        return None
    others = f" and {len(changed) - 1} more" if changed[1:] else ""
    return f"VERSION is still {written(now)} as in {base}, but {changed[0]}{others} changed; run: make bump PART=patch"


def _read(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise VersionFault(f"{name} is not there; take it from git again: git checkout {name}") from None


def _git(root: Path, *words: str) -> str:
    command = ["git", *words]  # wherever git is
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VersionFault(f"git {' '.join(words)} failed; fetch the whole history. It said: {done.stderr.strip()}")
    return done.stdout


def check(root: Path, base: str | None) -> str:
    """Return that all is well.

    Raises:
        VersionFault: it is not.
    """
    late = lacking(root, base) if base else None
    if faults := [*disagreements(root), *([late] if late else [])]:
        raise VersionFault("\n".join(faults))
    return f"{_read(root, 'VERSION').strip()} stands wherever it has to"


def notes(root: Path, version: str | None) -> str:
    """Return what CHANGELOG.md says of a version.

    Raises:
        VersionFault: it says nothing.
    """
    name = version or written(parse(_read(root, "VERSION")))
    found = part_of(_read(root, "CHANGELOG.md"), name)
    if not found:
        raise VersionFault(f"CHANGELOG.md says nothing of {name}; write a part for it")
    return found


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Do what is asked for; 1 means that something has to change first."""
    parser = argparse.ArgumentParser(description="Raise or check the version.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bump").add_argument("part", help="patch, minor, major or a version such as 1.2.3")
    commands.add_parser("check").add_argument("--base", help="a commit or branch, such as origin/main")
    commands.add_parser("notes").add_argument("version", nargs="?", help="default: the one in VERSION")
    options = parser.parse_args(arguments)
    try:
        if options.command == "bump":
            print(bump(root, options.part, datetime.now(UTC).date()))
        elif options.command == "check":
            print(check(root, options.base))
        else:
            print(notes(root, options.version))
    except VersionFault as fault:
        print(f"version: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
