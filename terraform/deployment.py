"""One deployment, from new versions that nobody is led to until all callers are, and back where that goes wrong.

In this order: a version of each function; calls that prove them; the record of what was before; a canary; all callers.
docs/failures.md says what happens when it fails or is killed at any point of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from terraform import aliases, functions, probes, summary
from terraform.aliases import ALIAS, Alias, Change, DeployError, MovedMeanwhile, Outcome
from terraform.functions import Function
from terraform.prune import KEEP, prune
from terraform.record import DEPLOYED, ROLLED_BACK, SHIFTING, Record, Records
from terraform.stop import Stop
from terraform.summary import Release
from terraform.watch import LOOK_SECONDS, Watch

ROOT: Final = Path(__file__).resolve().parent.parent

EXIT_FAILED: Final = 1
EXIT_SOMEBODY_ELSE: Final = 3

FAILURES: Final = (DeployError, BotoCoreError, ClientError)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Aws:
    """The clients that a deployment needs."""

    functions: Any
    ssm: Any
    cloudwatch: Any
    ec2: Any
    region: str

    @classmethod
    def of_environment(cls) -> Aws:
        """Make them with the region and the credentials of the environment.

        Raises:
            botocore.exceptions.BotoCoreError: the environment has no region.
        """
        config = Config(connect_timeout=5, read_timeout=70, retries={"mode": "standard", "total_max_attempts": 5})
        session = boto3.Session()
        made = {name: session.client(name, config=config) for name in ("lambda", "ssm", "cloudwatch", "ec2")}
        region = str(made["lambda"].meta.region_name)
        return cls(made["lambda"], made["ssm"], made["cloudwatch"], made["ec2"], region)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to deploy.

    Attributes:
        name: the system's, Terraform's variable `name`.
        package: the zip; `None` for those of `make lambda-package`.
        weight: share of the calls, 0 to 1, that the canary gets; 0 for no canary.
        canary_seconds: how long it lasts.
        watch_seconds: how long the system is watched after it.
    """

    name: str
    package: Path | None = None
    weight: float = 0.1
    canary_seconds: float = 120.0
    watch_seconds: float = 60.0


@dataclass
class Deployment:
    """One deployment.

    Attributes:
        title: how it ended.
        reason: why it ended so, where it failed.
    """

    aws: Aws
    plan: Plan
    release: Release
    stop: Stop
    tell: Tell
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    title: str = ""
    reason: str = ""
    changes: dict[str, Change] = field(default_factory=dict)
    proofs: list[probes.Proof] = field(default_factory=list)
    _aliases: dict[str, Alias] = field(default_factory=dict)
    _outcomes: list[Outcome] = field(default_factory=list)
    _gpu: str = ""

    def run(self) -> int:
        """Deploy; return the exit status, see the constants above."""
        records = Records(self.aws.ssm, self.plan.name)
        try:
            found = functions.find(self.aws.functions, self.plan.name)
            self._gpu = next((each.environment.get("TLFIF_GPU_TAG", "") for each in found if each.kind == "router"), "")
            seen = self._look_for_others(records)
            self._make_versions(found)
            if not self.changes:
                self._end(f"{self.plan.name} runs {self.release.version} already: nothing new to deploy")
                return 0
            self._prove(found)
            record = Record(self.release.version, self.release.commit, self.now(), SHIFTING, self.changes)
            watch = Watch(self.aws.cloudwatch, self.plan.name, self.changes, self.now)
            self.stop.check()
            records.write_after(record, seen)
        except FAILURES as error:
            return self._fail(error, "was not deployed")
        try:
            self._shift(watch)
            records.end(dataclasses.replace(record, state=DEPLOYED, at=self.now()))
        except FAILURES as error:
            return self._fail(error, self._undo(records, record))
        except BaseException:
            self._undo(records, record)
            raise
        self._end(f"{self.plan.name} {self.release.version} is deployed")
        self._prune()
        return 0

    def _look_for_others(self, records: Records) -> int:
        """Return the number of the newest record, after putting back what a dead deployment left.

        Raises:
            MovedMeanwhile: somebody else deploys.
        """
        record, seen = records.read()
        if record is None or record.state != SHIFTING:
            return seen
        began = record.at.isoformat(timespec="seconds")
        if not record.is_dead(self.now()):
            raise MovedMeanwhile(
                f"another deployment, of {record.version} {record.commit}, began at {began} and has not ended; wait for"
                " it, or, if it was killed, run make rollback and then this again"
            )
        self.tell(f"a deployment of {record.version} that began at {began} was killed: putting back what it left")
        if not self._put_back(record.functions):
            raise DeployError("what a killed deployment left cannot be put back; see above, and run this again")
        return records.write(dataclasses.replace(record, state=ROLLED_BACK, at=self.now()))

    def _make_versions(self, found: list[Function]) -> None:
        if not found:
            raise DeployError(
                f"there are no functions of {self.plan.name} in {self.aws.region}; set AWS_REGION and --name, or make"
                " them: docs/deploy.md, step 3"
            )
        packages = functions.packages(found, ROOT / "dist", self.plan.package)
        for function in found:
            self.stop.check()
            alias = aliases.read(self.aws.functions, function.name)
            if alias is None:
                self.tell(
                    f"{function.name} has no alias {ALIAS}, so nobody calls it: left alone; terraform apply makes one"
                )
                continue
            if not alias.version.isdecimal() or alias.weights:
                raise MovedMeanwhile(
                    f"the alias {ALIAS} of {function.name} leads to {alias}, where somebody else has moved it; let it"
                    f" lead to one version, and deploy again: make rollback ARGS='--function {function.name}"
                    " --function-version N'"
                )
            package = packages[function.architecture]
            version = functions.publish(self.aws.functions, function, package, str(self.release), self.stop.pause)
            self._aliases[function.name] = alias
            if version == alias.version:
                self.tell(f"{function.name} runs this code and configuration already, as version {version}")
                continue
            self.tell(f"{function.name}: version {version} is there, and nobody is led to it yet")
            self.changes[function.name] = Change(version, alias.version)
        if not self._aliases:
            raise DeployError(
                "none of the functions is called by anybody; run terraform apply, which makes the aliases"
            )

    def _prove(self, found: list[Function]) -> None:
        invoke = probes.invoker(self.aws.functions)
        for function in found:
            change = self.changes.get(function.name)
            if change is None:
                continue
            made = functions.configuration(self.aws.functions, function.name, self.stop.pause, change.now)
            environment = made.get("Environment", {}).get("Variables", {})
            for proof in probes.prove(invoke, function.name, change.now, probes.probes(function.kind, environment)):
                self.tell(f"{function.name}: {proof.asks} is answered as it should be")
                self.proofs.append(proof)
                self.stop.check()

    def _shift(self, watch: Watch) -> None:
        if self.plan.weight:
            for function, change in self.changes.items():
                self._move(function, change.before, {change.now: self.plan.weight})
            self._look(watch, self.plan.canary_seconds)
        for function, change in self.changes.items():
            self._move(function, change.now, {})
        watch.everybody_is_led_to_the_new()
        self._look(watch, self.plan.watch_seconds)
        for function in self.changes:
            found = aliases.read(self.aws.functions, function)
            if found != self._aliases[function]:
                raise MovedMeanwhile(
                    f"somebody else has moved the alias {ALIAS} of {function}, to {found or 'nothing'}"
                )

    def _move(self, function: str, version: str, weights: dict[str, float]) -> None:
        self.stop.check()
        moved = aliases.move(self.aws.functions, self._aliases[function], version, weights)
        self._aliases[function] = moved
        self.tell(f"{function} leads to {moved}")

    def _look(self, watch: Watch, seconds: float) -> None:
        """Watch for so long.

        Raises:
            WentWrong: it got worse.
        """
        self.tell(f"watching alarms and errors for {seconds:.0f} s")
        left = seconds
        while True:
            watch.look()
            if left <= 0:
                return
            step = min(LOOK_SECONDS, left)
            self.stop.pause(step)
            left -= step

    def _undo(self, records: Records, record: Record) -> str:
        """Put back what was moved, and keep a record of that; say how it went."""
        if not self._put_back(self.changes):
            return "failed and is NOT put back everywhere: run make rollback"
        try:
            records.end(dataclasses.replace(record, state=ROLLED_BACK, at=self.now()))
        except MovedMeanwhile:
            pass  # somebody else's word on it stands
        except FAILURES as error:
            self.tell(f"the record could not be written, and says that this still goes on: {error}; run make rollback")
        return "failed and was rolled back"

    def _put_back(self, changes: Mapping[str, Change]) -> bool:
        """Put functions back as far as they are still where they were moved to; tell whether all is well."""
        found = []
        for function, change in sorted(changes.items()):
            found.append(aliases.put_back(self.aws.functions, function, change.before, change.now))
            self.tell(str(found[-1]))
        self._outcomes += found
        return all(each.is_well for each in found)

    def _prune(self) -> None:
        """Delete old versions; the deployment stands if that fails."""
        kept = {(function, change.before) for function, change in self.changes.items()}
        try:
            count = sum(1 for _ in prune(self.aws.functions, self.plan.name, KEEP, kept))
        except (BotoCoreError, ClientError) as error:
            self.tell(f"old versions stay, which costs nothing: {error}; run python -m terraform.prune")
        else:
            self.tell(f"{count} old versions deleted, for the newest {KEEP} of each function are kept")

    def _end(self, title: str, reason: str = "") -> None:
        self.title, self.reason = title, reason
        self.tell(title)

    def _fail(self, error: Exception, what: str) -> int:
        self._end(f"{self.plan.name} {self.release.version} {what}", str(error))
        self.tell(f"the reason: {error}")
        return EXIT_SOMEBODY_ELSE if isinstance(error, MovedMeanwhile) else EXIT_FAILED

    def page(self) -> str:
        """Return the summary, in Markdown."""
        if self.reason or not self.title:
            told = [self.reason, summary.listed(map(str, self._outcomes))]
        else:
            told = [summary.changes(self.changes)]
        gpu = summary.gpu_behind(self.aws.ec2, self.aws.ssm, self.plan.name, self._gpu) if self._gpu else ""
        return summary.page(
            self.title or f"{self.plan.name} {self.release.version} ended with an error",
            self.release,
            [*told, summary.proofs(self.proofs, self.aws.region), gpu],
        )
