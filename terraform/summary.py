"""What a deployment or a rollback tells people: a page of Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from terraform.aliases import Change
from terraform.probes import Proof


@dataclass(frozen=True, slots=True)
class Release:
    """What is deployed: the version of the file VERSION, and the commit."""

    version: str
    commit: str

    def __str__(self) -> str:
        return f"{self.version} {self.commit}"


def short(commit: str) -> str:
    """Return as much of a commit's SHA as is told."""
    return commit[:12]


def write(path: Path, text: str) -> None:
    """Write a page; what was deployed stands, also where that cannot be told."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"the summary cannot be written: {error}; it is:\n{text}\n")


def trace_link(region: str, trace: str) -> str:
    """Return the address of a trace in X-Ray's console."""
    return f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#xray:traces/{trace}"


def page(title: str, release: Release, paragraphs: Iterable[str]) -> str:
    """Put a page together; empty paragraphs are left out."""
    parts = [f"## {title}", f"Commit `{release.commit}`.", *paragraphs]
    return "\n\n".join(part for part in parts if part) + "\n"


def changes(found: Mapping[str, Change]) -> str:
    """Return what each function ran before and runs now."""
    return listed(f"{name}: {change.before} → {change.now}" for name, change in sorted(found.items()))


def listed(lines: Iterable[str]) -> str:
    """Return lines as a list."""
    return "\n".join(f"- {line}" for line in lines)


def proofs(found: Sequence[Proof], region: str) -> str:
    """Return how the new versions were proven, with links to the traces."""
    if not found:
        return ""
    lines = []
    for proof in found:
        link = f" ([trace]({trace_link(region, proof.trace)}))" if proof.trace else ""
        lines.append(f"{proof.function}: {proof.asks}{link}")
    return f"Answered as they should, before any caller was led to them:\n\n{listed(lines)}"


def gpu_behind(ec2: Any, ssm: Any, name: str, tag: str) -> str:
    """Say which GPU boots from another image than the newest; nothing where all do not, or nobody may ask.

    `tag` is name and value, `env=tinyllama`, of the instances.
    """
    key, _, value = tag.partition("=")
    if not value:
        return ""
    try:
        newest = ssm.get_parameter(Name=f"/{name}/latest_ami_id")["Parameter"]["Value"]
        pages = ec2.get_paginator("describe_instances").paginate(
            Filters=[
                {"Name": f"tag:{key}", "Values": [value]},
                {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
            ]
        )
        found = [each for page in pages for group in page["Reservations"] for each in group["Instances"]]
    except (BotoCoreError, ClientError):
        return ""
    old = sorted(f"{each['InstanceId']} boots from {each['ImageId']}" for each in found if each["ImageId"] != newest)
    return f"{', '.join(old)}; the newest image is {newest}: `terraform apply` moves the GPU to it." if old else ""
