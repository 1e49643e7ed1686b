"""The index of docs/adr: every decision below what it is about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

TOPICS: Final = {
    "The API and the router": (
        *("body-limits", "openapi", "own-schema-check", "lambda-authorizer", "presign-without-boto3", "throttle"),
        *("lambda-zip", "status-route"),
    ),
    "The queue and its promises": (
        *("leases-that-ran-out", "last-try-alone", "resume-from-the-shown-text", "sweep-the-head-of-the-queue"),
        *("take-several-jobs-at-once", "look-for-overdue-jobs-in-steps"),
    ),
    "Waking and stopping the GPU": (
        *("finding-the-worker", "waking-keys", "idle-time", "self-stop", "waker-and-reaper", "more-than-one-gpu"),
        *("boot-phases", "boot-before-the-network"),
    ),
    "The worker and the engine": (
        *("engine-on-the-cpu", "engine-on-the-t4", "sampling-on-a-gpu", "engine-that-hangs", "lean-imports"),
        *("connect-while-loading", "several-tokens-a-step", "openai-api-on-the-engine", "python-3.11-on-the-node"),
    ),
    "Replies": (
        *("aiobotocore-for-s3", "plain-puts-without-the-sdk", "msgspec-for-replies", "snapshot-pacing"),
        *("snapshots-of-an-eighth", "snapshots-share-a-budget"),
    ),
    "The node and its image": (
        *("image-on-amazon-linux", "builder-with-a-t4", "image-in-a-root-of-its-own", "one-version-of-the-recipe"),
        *("model-as-safetensors", "own-certificate-at-each-boot", "what-the-node-reports"),
    ),
    "AWS and what it costs": (
        *("terraform-layout", "two-profiles", "ipv6-way-out", "routes-from-openapi", "synthetics-by-cloudformation"),
        *("spend-from-three-sources", "refuse-to-wake-above-the-cap"),
    ),
    "Delivery": (
        *("codepipeline", "pipeline-does-not-apply", "alias-moved-by-deploy", "canary-weights", "build-cost-limit"),
        *("github-actions", "locks-with-hashes", "one-lock-file", "supply-chain"),
    ),
    "Testing and documentation": (
        *("moto-stands-in-for-aws", "a-machine-for-moto", "seaweedfs-stands-in-for-minio", "nginx-from-a-wheel"),
        *("reference-from-the-code",),
    ),
}
"""The records by what they are about, each without date and suffix."""

UNSORTED: Final = "Not sorted yet"
"""The heading above records that are in no topic; a test wants none."""

_NAME: Final = re.compile(r"ADR-(\d{4}-\d{2}-\d{2})-(.+)\.md")


def render(folder: Path) -> str:
    """Return a list for each topic, in the order of the dates."""
    found = {}
    for path in sorted(folder.glob("ADR-*.md")):
        named = _NAME.fullmatch(path.name)
        if named:
            title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            found[named[2]] = f"- [{title}]({path.name}), {named[1]}"
    sorted_ = {slug for slugs in TOPICS.values() for slug in slugs}
    topics = {**TOPICS, UNSORTED: tuple(slug for slug in found if slug not in sorted_)}
    parts = []
    for topic, slugs in topics.items():
        lines = [line for slug, line in found.items() if slug in slugs]
        if lines:
            parts.append(f"## {topic}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)
