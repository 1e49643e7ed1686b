"""Whether what a page for operators names exists: log lines, metrics, settings, alarms, commands, files, links.

How a page writes these: a log line in double quotes within a code span (`"ready"`), a widget in italics (*Boots*), all
else in plain code spans.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import botocore.session
import jmespath
from botocore import xform_name

from tests.infra.agent_world import CONFIG
from tests.infra.terraform_world import REPOSITORY
from worker.settings import Settings

_CODE: Final = ("worker", "router_lambda", "client", "terraform", "supervisord", "ami")
_SUFFIXES: Final = {
    ".py",
    ".sh",
    ".tf",
    ".tftpl",
    ".json",
    ".yaml",
    ".conf",
    ".service",
    ".path",
    ".env",
    ".cwi",
    ".lua",
}
_OF_AWS: Final = {
    *("UnauthorizedOperation", "AccessDenied", "VcpuLimitExceeded", "StopInstances", "BoxUsage", "NodeUsage"),
    *("VolumeUsage", "SnapshotUsage", "LoadBalancerUsage", "MetricMonitorUsage", "AlarmMonitorUsage", "InUseAddress"),
    *("DataProcessing", "PublicIPv4", "EntityAlreadyExists", "BucketAlreadyOwnedByYou"),
}
"""Words of AWS's that no code of ours has: errors, calls and what stands on the bill."""

_PATHS: Final = {
    f"/{CONFIG}",
    "/opt/aws/amazon-cloudwatch-agent/logs/amazon-cloudwatch-agent.log",
    "/opt/tl-fif/.venv/bin/supervisorctl",
    "/var/log/cloud-init-output.log",
}
"""On the node, made by programs that are not ours or put together from parts."""

_CUSTOM: Final = {
    ("s3", "cp"): set[str](),
    ("logs", "tail"): {"since", "format", "follow", "log-stream-names"},
    ("lambda", "invoke"): {"function-name", "payload"},
}
"""Commands of the CLI's own, or with an argument of its own, and their options."""

_GLOBAL: Final = {"query", "output", "region", "cli-binary-format"}


@cache
def code() -> str:
    """Return all that the system is made of."""
    files = (path for folder in _CODE for path in sorted((REPOSITORY / folder).rglob("*")))
    return "\n".join(
        path.read_text(encoding="utf-8")
        for path in files
        if path.is_file()
        and (path.suffix in _SUFFIXES or path.parent.name == "logrotate.d")
        and ".terraform" not in path.parts
    )


@cache
def events() -> frozenset[str]:
    """Return what worker and functions log: the first argument of a call of a logger's, or of what counts."""
    found = set()
    for folder in ("worker", "router_lambda"):
        for path in (REPOSITORY / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                named = [each.value for each in node.keywords if each.arg == "event"]
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in {"info", "warning", "error", "count"}:
                    named += node.args[:1]
                found |= {
                    each.value for each in named if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    return frozenset(found)


@cache
def alarms() -> dict[str, str]:
    """Return every alarm by its short name, with the part of the runbook that it points to."""
    modules = REPOSITORY / "terraform" / "modules"
    described = (modules / "observability" / "alarms.tf").read_text(encoding="utf-8")
    found = dict(re.findall(r'^    ([a-z-]+) = \{\n(?:      .*\n)*?      see +?= "(.+)"$', described, re.MULTILINE))
    spend = (modules / "budget" / "alarms.tf").read_text(encoding="utf-8")
    (see,) = re.findall(r'docs/runbook\.md, \\"(.+?)\\"', spend)
    return found | dict.fromkeys(re.findall(r"^    (spend-[a-z]+) = \{$", spend, re.MULTILINE), see)


@cache
def widgets() -> frozenset[str]:
    """Return the titles on the dashboard."""
    template = REPOSITORY / "terraform" / "modules" / "observability" / "dashboard.json.tftpl"
    return frozenset(re.findall(r'"title": "(.+?)"', template.read_text(encoding="utf-8")))


@cache
def declared(kind: str) -> frozenset[str]:
    """Return the names of the roots' variables or outputs."""
    roots = [path for folder in (".", "image", "delivery") for path in (REPOSITORY / "terraform" / folder).glob("*.tf")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in roots)
    return frozenset(re.findall(rf'^{kind} "(\w+)"', text, re.MULTILINE))


@cache
def _units() -> frozenset[str]:
    files = (path for folder in ("supervisord", "ami") for path in (REPOSITORY / folder).rglob("tl-fif-*"))
    return frozenset(path.stem.removeprefix("tl-fif-") for path in files if path.suffix in {".service", ".path"})


@cache
def _functions() -> frozenset[str]:
    variables = REPOSITORY / "terraform" / "modules" / "observability" / "variables.tf"
    (listed,) = re.findall(r"setsubtract\(\n *\[(.+?)\]", variables.read_text(encoding="utf-8"))
    return frozenset(re.findall(r'"([a-z-]+)"', listed))


_NAME: Final = re.compile(
    r"""\b(?:TLFIF_[A-Z0-9_]+              # settings
    |(?:vllm:|tlfif_)\w+                  # the worker's metrics
    |[a-z][a-z0-9]*(?:_[a-z0-9]+)+        # variables, fields
    |(?:[A-Z]+[a-z0-9]+){2,}              # metrics, errors
    |[A-Z][A-Za-z]+EUR)\b""",
    re.VERBOSE,
)


@cache
def _names() -> frozenset[str]:
    settings = {f"TLFIF_{name.upper()}" for name in Settings.model_fields}
    return frozenset(_NAME.findall(code())) | settings | _OF_AWS


def anchors(text: str) -> set[str]:
    """Return what a page's headings can be linked to by."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems(page: Path, text: str | None = None) -> list[str]:
    """Return what a page, or a text in its place, names that does not exist."""
    text = page.read_text(encoding="utf-8") if text is None else text
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", prose)
    found = [problem for span in spans for problem in _wrong_with(" ".join(span.split()))]
    found += [
        f"no widget {title}" for title in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", prose) if title not in widgets()
    ]
    known = {"0", "1", *re.findall(r"^EXIT_\w+: Final = (\d+)$", code(), re.MULTILINE)}
    found += [f"no exit code {each}" for each in re.findall(r"exit code (\d+)", prose) if each not in known]
    for commands in [*blocks, *(span for span in spans if span.startswith(("aws ", "terraform ")))]:
        found += _wrong_with_commands(commands)
    return found + list(_dead_links(page, text))


def _wrong_with(span: str) -> Iterator[str]:
    if event := re.fullmatch(r'"(.+)"', span):
        if event[1].replace("\\n", "\n") not in events():
            yield f"nobody logs {span}"
    elif name := re.fullmatch(r"tl-fif-([a-z-]+)(?:\.path|\.service)?", span):
        if name[1] not in alarms().keys() | _units() | _functions():
            yield f"no alarm, unit or function {span}"
    elif span.startswith("/"):
        yield from _wrong_with_path(span)
    elif span.startswith(("WRONG:", "NOT PROVEN", "proof failed:")):  # what the image's own checks say
        yield from (f"nobody says {part}" for part in span.rstrip(":").split(": ") if part not in code())
    elif re.fullmatch(r"ami/[\w./]+", span):
        if not (REPOSITORY / span).exists():
            yield f"no file {span}"
    elif not span.startswith(("aws ", "terraform ", "$(")):
        yield from (f"nothing is called {word}" for word in _NAME.findall(span) if word not in _names())


def _wrong_with_path(path: str) -> Iterator[str]:
    if function := re.fullmatch(r"/aws/lambda/tl-fif-([a-z-]+)", path):
        if function[1] not in _functions():
            yield f"no log group {path}"
    elif path not in _PATHS and {"/tl-fif/worker": "/${var.name}/worker"}.get(path, path) not in code():
        yield f"no {path}"


def _wrong_with_commands(commands: str) -> Iterator[str]:
    joined = re.sub(r"\\\n *", " ", commands)
    for kind, name in re.findall(r"terraform (?:-chdir=\S+ )?(output) (?:-raw|-json) (\w+)", joined):
        if name not in declared(kind):
            yield f"no output {name}"
    for name in re.findall(r"-var '?\"?(\w+)=", joined):
        if name not in declared("variable"):
            yield f"no variable {name}"
    for name in re.findall(r"(?<![/\w-])tl-fif-[a-z-]+", joined):
        yield from _wrong_with(name)
    for path in re.findall(r"(?<![\w/:.~-])/(?:aws/lambda|tl-fif|etc|opt|run|var)/[\w./-]+", joined):
        yield from _wrong_with_path(path)
    for command in re.findall(r"\baws [a-z0-9]+ (?:[^|;\n]|\n(?! *[a-zA-Z]+[= ]))*", joined):
        yield from _wrong_with_aws(command)


def _wrong_with_aws(command: str) -> Iterator[str]:
    _, service, operation = command.split()[:3]
    options = set(re.findall(r"(?<= )--([a-z0-9-]+)", command))
    known = _CUSTOM.get((service, operation))
    if known is None:
        known = _options(service, operation)
    if known is None:
        yield f"the AWS CLI has no {service} {operation}"
        return
    yield from (f"aws {service} {operation} has no --{each}" for each in sorted(options - known - _GLOBAL))
    for query in re.findall(r"--query '([^']+)'", command):
        try:
            jmespath.compile(query)
        except jmespath.exceptions.JMESPathError:
            yield f"no query: {query}"


@cache
def _options(service: str, operation: str) -> set[str] | None:
    session = botocore.session.get_session()
    if service not in session.get_available_services():
        return None
    model: Any = session.get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in names:
        return None
    shape = model.operation_model(names[operation]).input_shape
    return {xform_name(member, "-") for member in shape.members} if shape else set()


def _dead_links(page: Path, text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        linked = page if not path else (page.parent / path).resolve()
        if not linked.exists():
            yield f"no page {target}"
        elif anchor and anchor not in anchors(linked.read_text(encoding="utf-8") if path else text):
            yield f"no heading {target}"
