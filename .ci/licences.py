"""Write docs/licences.md: under which terms everything is that the locks install (`make licences`).

The terms are those of each package's metadata, which pip fetches without the package; they are written as SPDX
expressions. `LicenseRef-BSD` stands for a BSD licence of which the metadata does not say which one it is.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambda_package import NoPython, find_python
from license_expression import get_spdx_licensing
from lock import Place, resolve, versions
from locks import LOCKS, ROOT, ROUTER, Lock

PAGE: Final = ROOT / "docs" / "licences.md"
BSD: Final = "LicenseRef-BSD"
NVIDIA: Final = "LicenseRef-NVIDIA-Proprietary"
INTEL: Final = "LicenseRef-Intel-Proprietary"

TEXTS: Final = (
    (r"Apache( Software)?( License)?( Version)?( 2(\.0)?)?( License)?", "Apache-2.0"),
    (r"(The )?MIT([ -]License| style)?", "MIT"),
    (r"BSD[ -]3-Clause( License)?|3-Clause BSD License", "BSD-3-Clause"),
    (r"BSD 2-Clause License", "BSD-2-Clause"),
    (r"BSD( License|-derived .*)?", BSD),
    (r"ISC License", "ISC"),
    (r"PSFL|PSF License", "PSF-2.0"),
    (r"NVIDIA Proprietary Software", NVIDIA),
    (r"Intel End User License Agreement .*", INTEL),
)
"""What the first line of the field `License` says, where it is no SPDX expression."""

CLASSIFIERS: Final = {
    "Apache Software License": "Apache-2.0",
    "BSD License": BSD,
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}

NOT_STATED: Final = {
    "cuda-toolkit": NVIDIA,
    "nvidia-cutlass-dsl": NVIDIA,
    "nvidia-cutlass-dsl-libs-base": NVIDIA,
    "nvidia-cutlass-dsl-libs-core": NVIDIA,
    "nvidia-cutlass-dsl-libs-cu12": NVIDIA,
    "nvidia-cutlass-dsl-libs-cu13": NVIDIA,
    "oss-harmony": "Apache-2.0",
    "quack-kernels": "Apache-2.0",
    "setuptools": "MIT",
    "torchcodec": f"BSD-3-Clause AND {NVIDIA}",
}
"""Packages whose metadata says nothing, or no more than proprietary: from the wheel's licence file, or its maker."""

PERMISSIVE: Final = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0"),
    *("MIT-CMU", "PSF-2.0", "Unlicense", "Zlib", BSD),
}
WEAK: Final = {"LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MPL-2.0"}
"""Changes to the package itself would have to be published; what uses it may have any terms."""
PROPRIETARY: Final = {NVIDIA, INTEL}
"""May be used, and not handed on in every way: an image with it stays private."""

KINDS: Final = ("permissive", "weak copyleft", "proprietary", "other")

ROW: Final = re.compile(r"\| (?P<name>[a-z0-9-]+) \| (?P<version>\d\S*) \| (?P<terms>[^|]+) \| (?P<locks>[^|]+) \|")

SPDX: Final = get_spdx_licensing()
"""Made once: it takes a second."""

HEAD: Final = """\
# Licences

Written by `make licences` from the metadata of every package that a lock names; not a lawyer's word. Terms are SPDX
expressions. `LicenseRef-BSD` is a BSD licence of which the metadata does not say which one it is. What is not from a
lock is not here: Amazon Linux and NVIDIA's driver on the image, the model, and the npm packages that lint.
"""


@dataclass(frozen=True, slots=True)
class Terms:
    """A row of the page."""

    name: str
    version: str
    terms: str
    locks: str


def terms_of(metadata: Mapping[str, Any]) -> str:
    """Return the SPDX expression of a package's metadata, in pip's JSON of it.

    Raises:
        ValueError: it does not say what the terms are.
    """
    name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
    if name in NOT_STATED:
        return NOT_STATED[name]
    stated = metadata.get("license_expression") or metadata.get("license") or ""
    line = " ".join(stated.strip().partition("\n")[0].split())
    if line and (_is_spdx(line) or line in PROPRIETARY):
        return line
    for pattern, expression in TEXTS:
        if re.fullmatch(pattern, line, re.IGNORECASE):
            return expression
    classes = [each.rpartition(" :: ")[2] for each in metadata.get("classifier", []) if each.startswith("License ::")]
    if found := sorted({CLASSIFIERS[each] for each in classes if each in CLASSIFIERS}):
        return " AND ".join(found)
    raise ValueError(
        f"{name} {metadata['version']} does not say its terms; read them in its wheel and add it to"
        " NOT_STATED in .ci/licences.py"
    )


def _is_spdx(text: str) -> bool:
    return bool(re.fullmatch(r"[\w.()+ -]+", text)) and not SPDX.validate(text, strict=True).errors


def kind(expression: str) -> str:
    """Return the strictest kind of what an expression names, whether it is AND or OR that joins it."""
    plain = re.sub(r" WITH [\w.-]+", "", expression)
    found = set(re.findall(r"[\w.-]+", plain)) - {"AND", "OR"}
    if found - PERMISSIVE - WEAK - PROPRIETARY:
        return "other"
    if found & PROPRIETARY:
        return "proprietary"
    return "weak copyleft" if found & WEAK else "permissive"


def faults(rows: list[Terms]) -> list[str]:
    """Say which terms nobody has judged, and which may not be where they are."""
    said = []
    for row in rows:
        if kind(row.terms) == "other":
            said.append(f"{row.name} {row.version} is under {row.terms}: judge it, and name it in .ci/licences.py")
        if kind(row.terms) == "proprietary" and str(ROUTER) in row.locks:
            said.append(f"{row.name} {row.version} is under {row.terms}, and the Lambda packages may be handed on")
    return said


def read(page: Path = PAGE) -> list[Terms]:
    """Read the page's table."""
    found = map(ROW.fullmatch, page.read_text(encoding="utf-8").splitlines())
    return [Terms(*(cell.strip() for cell in each.groups())) for each in found if each]


def collect() -> Iterator[tuple[Lock, str, str, str]]:
    """Ask for the terms of each package of each lock: lock, name, version, terms."""
    for lock in LOCKS:
        place = Place(str(find_python())) if lock is ROUTER else Place()
        report = resolve(versions(lock), place, (), ["--no-deps"])
        for pin in lock.pins():
            yield lock, pin.name, pin.version, terms_of(report[pin.name]["metadata"])


def render(rows: list[Terms]) -> str:
    """Return the page."""
    counts = {lock: Counter(kind(row.terms) for row in rows if str(lock) in row.locks.split(", ")) for lock in LOCKS}
    summary = [
        f"| `{lock}` | " + " | ".join(str(count[each]) for each in KINDS[:3]) + " |" for lock, count in counts.items()
    ]
    notable = [row for row in rows if kind(row.terms) != "permissive"]
    lines = [HEAD, "| lock | " + " | ".join(KINDS[:3]) + " |", "| --- | --: | --: | --: |", *summary, ""]
    lines += ["## Not permissive", ""]
    lines += [f"- {row.name} {row.version}: {row.terms}, {kind(row.terms)}, in {row.locks}" for row in notable]
    lines += ["", "## All", "", "| package | version | terms | in |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.name} | {row.version} | {row.terms} | {row.locks} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page; 1 when terms are missing or may not be where they are."""
    print("Asking for the metadata of every locked package; this takes a minute or two.", flush=True)
    found: dict[tuple[str, str, str], list[str]] = {}
    try:
        for lock, name, version, terms in collect():
            found.setdefault((name, version, terms), []).append(str(lock))
    except (NoPython, ValueError) as failure:
        print(f"licences: {failure}", file=sys.stderr)
        return 1
    rows = [Terms(*key, ", ".join(locks)) for key, locks in sorted(found.items())]
    PAGE.write_text(render(rows), encoding="utf-8")
    said = faults(rows)
    print(*said, f"{PAGE.relative_to(ROOT)}: {len(rows)} packages, {len(said)} faults", sep="\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
