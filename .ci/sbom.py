"""Write a bill of materials for each lock, in CycloneDX's JSON, into dist/ (`make sbom`).

The same sources give the same bytes: no time of ours gets into one, and its serial number is made from its contents.
A component's hashes are those of the files that the lock allows; where there are two, one is for each processor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any, Final

from licences import Terms, read
from locks import LOCKS, ROOT, Lock

SPECIFICATION: Final = "1.6"


def bill(lock: Lock, version: str, terms: dict[tuple[str, str], str]) -> dict[str, Any]:
    """Return the bill of materials of a lock; `terms` maps name and version of a package to its SPDX expression.

    Raises:
        ValueError: the terms of a package are not known.
    """
    components = []
    for pin in lock.pins():
        if (pin.name, pin.version) not in terms:
            raise ValueError(f"docs/licences.md does not have {pin}; run: make licences")
        reference = f"pkg:pypi/{pin.name}@{pin.version}"
        components.append(
            {
                "type": "library",
                "bom-ref": reference,
                "name": pin.name,
                "version": pin.version,
                "hashes": [{"alg": "SHA-256", "content": each} for each in pin.hashes],
                "licenses": [{"expression": terms[pin.name, pin.version]}],
                "purl": reference,
            }
        )
    own = {"type": "application", "bom-ref": lock.what, "name": lock.what, "version": version}
    contents = {"component": own | {"licenses": [{"license": {"id": "Apache-2.0"}}]}}
    digest = hashlib.sha256(json.dumps([contents, components], sort_keys=True).encode()).hexdigest()
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": contents,
        "components": components,
    }


def known(rows: list[Terms]) -> dict[tuple[str, str], str]:
    """Return the terms of each package and version."""
    return {(row.name, row.version): row.terms for row in rows}


def main(arguments: list[str]) -> int:
    """Write them and print path, count and SHA-256 of each."""
    parser = argparse.ArgumentParser(description="Write a bill of materials for each lock.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder to write to; default: dist")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    try:
        bills = {lock: bill(lock, version, known(read())) for lock in LOCKS}
    except ValueError as failure:
        print(f"sbom: {failure}", file=sys.stderr)
        return 1
    for lock, contents in bills.items():
        path = options.output / f"{lock.what}.cdx.json"
        path.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{os.path.relpath(path)}  {len(contents['components'])} components  sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
