"""What has to hold for every workflow in .github/workflows, as functions that return what breaks it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".github" / "workflows"

ACTIONS: Final = {
    "actions/checkout": {"fetch-depth", "persist-credentials"},
    "actions/setup-node": {"node-version"},
    "actions/setup-python": {"python-version", "cache", "cache-dependency-path"},
    "actions/upload-artifact": {"name", "path", "if-no-files-found", "retention-days"},
    "aws-actions/configure-aws-credentials": {"role-to-assume", "aws-region", "mask-aws-account-id"},
    "hashicorp/setup-terraform": {"terraform_version", "terraform_wrapper"},
}
"""The actions that may be used, and those of their inputs that are known here: GitHub only warns of one that is not."""

GRANTED: Final = {
    ("release", "release"): {"actions": "read", "contents": "write"},
    ("rollback", "rollback"): {"contents": "read", "id-token": "write"},
}
"""By workflow and job, what one may do beyond reading the repository."""

RUNNER: Final = "ubuntu-24.04"
LONGEST_MINUTES: Final = 90
PRODUCTION: Final = "production"

_USES: Final = re.compile(r"^ *- uses: ([\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$")
_KEYS: Final = re.compile(r"aws[-_](?:access[-_]key|secret|session[-_]token)", re.IGNORECASE)
_ASSIGNED: Final = re.compile(r"([A-Z]+)=.*")


@dataclass(frozen=True)
class Workflow:
    """A workflow, as text and read."""

    name: str
    text: str

    @property
    def tree(self) -> dict[str, Any]:
        """What it says; YAML 1.1 takes the key `on` for a truth value."""
        read: dict[Any, Any] = yaml.safe_load(self.text)
        return {("on" if key is True else key): value for key, value in read.items()}

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """The jobs by name."""
        jobs: dict[str, dict[str, Any]] = self.tree["jobs"]
        return jobs

    @property
    def triggers(self) -> set[str]:
        """What starts it."""
        on = self.tree["on"]
        return {on} if isinstance(on, str) else set(on)

    def steps(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each step with its job's name."""
        return ((name, step) for name, job in self.jobs.items() for step in job["steps"])

    def is_near_production(self, job: str) -> bool:
        """Tell whether a job runs in the environment that asks a person."""
        return self.jobs[job].get("environment") == PRODUCTION


def workflows() -> list[Workflow]:
    """Read them all."""
    files = sorted(file for file in FOLDER.iterdir() if file.suffix in {".yml", ".yaml"})
    return [Workflow(file.stem, file.read_text(encoding="utf-8")) for file in files]


def targets() -> dict[str, str]:
    """Return the Makefile's targets, each with its recipe."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n)*)", text, flags=re.MULTILINE))


def command_fault(command: str, known: dict[str, str]) -> str | None:
    """Say what keeps a command from being one line of targets, with variables that their recipes read."""
    if "${{" in command:
        return f"{command}: hand an expression over by env, where no shell reads it"
    words = shlex.split(command)
    if words[:1] != ["make"]:
        return f"{command}: is no make target, so that nobody can run it elsewhere"
    wanted = [word for word in words[1:] if not _ASSIGNED.fullmatch(word)]
    unknown = [word for word in wanted if word not in known]
    if unknown or not wanted:
        return f"{command}: the Makefile has no target {' '.join(unknown)}"
    recipes = "".join(known[word] for word in wanted)
    assigned = [match[1] for word in words[1:] if (match := _ASSIGNED.fullmatch(word))]
    unread = [name for name in assigned if f"$({name})" not in recipes and f"$(if $({name})" not in recipes]
    if unread or re.search(r"\$\(|`|\n.", command):
        return f"{command}: is more than targets and the variables that they read"
    return None


# The rules.


def unpinned(workflow: Workflow) -> list[str]:
    """An action is one of those above, named by its whole commit, with the version beside it."""
    lines = [line for line in workflow.text.splitlines() if re.match(r"[ -]*uses:", line)]
    return [line.strip() for line in lines if not ((pin := _USES.fullmatch(line)) and pin[1] in ACTIONS)]


def unknown_inputs(workflow: Workflow) -> list[str]:
    """An action is given nothing that it does not know."""
    found = []
    for job, step in workflow.steps():
        known = ACTIONS.get(step.get("uses", "").partition("@")[0], set())
        found += [f"{job}: {step['uses']} has no input {name}" for name in set(step.get("with", {})) - known]
    return found


def odd_commands(workflow: Workflow) -> list[str]:
    """What is run can be run anywhere."""
    known = targets()
    faults = (command_fault(step["run"], known) for _, step in workflow.steps() if "run" in step)
    return [fault for fault in faults if fault]


def granted(workflow: Workflow) -> list[str]:
    """The token reads the repository, and does more only where the table says so."""
    found = [] if workflow.tree.get("permissions") == {"contents": "read"} else ["the workflow's own permissions"]
    for name, job in workflow.jobs.items():
        if job.get("permissions") != GRANTED.get((workflow.name, name)):
            found.append(f"{name}: {job.get('permissions')}")
    return found


def odd_triggers(workflow: Workflow) -> list[str]:
    """Nothing runs a stranger's code with rights, and what comes near production starts by hand."""
    odd = workflow.triggers - {"push", "pull_request", "schedule", "workflow_dispatch"}
    near = any(map(workflow.is_near_production, workflow.jobs))
    by_others = workflow.triggers - {"workflow_dispatch"} if near else set()
    writes = any(granted.get("contents") == "write" for (name, _), granted in GRANTED.items() if name == workflow.name)
    return sorted(odd | by_others | ({"pull_request", "schedule"} & workflow.triggers if writes else set()))


def keys(workflow: Workflow) -> list[str]:
    """No key of AWS is stored; secrets and AWS are for jobs that a person lets through."""
    found = [line.strip() for line in workflow.text.splitlines() if _KEYS.search(line)]
    for name, job in workflow.jobs.items():
        asks_aws = any(step.get("uses", "").startswith("aws-actions/") for step in job["steps"])
        gets_token = job.get("permissions", {}).get("id-token") == "write"
        if (asks_aws or gets_token or "secrets." in repr(job)) and not workflow.is_near_production(name):
            found.append(f"{name}: needs environment: {PRODUCTION}")
        if asks_aws != gets_token:
            found.append(f"{name}: id-token and configure-aws-credentials go together")
    return found


def unbounded(workflow: Workflow) -> list[str]:
    """A job ends, and runs on a machine whose contents do not change with the calendar."""
    return [
        name
        for name, job in workflow.jobs.items()
        if job.get("runs-on") != RUNNER or not 0 < job.get("timeout-minutes", 0) <= LONGEST_MINUTES
    ]


def racing(workflow: Workflow) -> list[str]:
    """Runs of a workflow know of each other, and one that changes something is never cut off."""
    concurrency = workflow.tree.get("concurrency") or {}
    if "group" not in concurrency or "cancel-in-progress" not in concurrency:
        return ["say concurrency: group and cancel-in-progress"]
    changes = any(name == workflow.name for name, _ in GRANTED) or any(map(workflow.is_near_production, workflow.jobs))
    return ["let it end: cancel-in-progress: false"] if changes and concurrency["cancel-in-progress"] else []


def leaky(workflow: Workflow) -> list[str]:
    """The token does not stay in the checkout, where every later command could read it."""
    return [
        job
        for job, step in workflow.steps()
        if step.get("uses", "").startswith("actions/checkout@")
        and step.get("with", {}).get("persist-credentials") is not False
    ]


RULES: Final[tuple[Callable[[Workflow], list[str]], ...]] = (
    *(unpinned, unknown_inputs, odd_commands, granted, odd_triggers, keys, unbounded, racing, leaky),
)
