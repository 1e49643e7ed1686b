"""What was deployed last: a parameter of SSM's, `/<name>/deployment`, written before the first alias moves.

Whoever comes later, after a crash too, learns from it which version each function had before. SSM keeps the last 100
of its values, so that the parameter is also the list of deployments.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError

from terraform.aliases import Change, DeployError, MovedMeanwhile, code_of

SHIFTING: Final = "shifting"
DEPLOYED: Final = "deployed"
ROLLED_BACK: Final = "rolled back"
_STATES: Final = (SHIFTING, DEPLOYED, ROLLED_BACK)

DEAD_AFTER: Final = timedelta(minutes=30)
"""A deployment takes no longer, see `terraform.deploy.LONGEST_SECONDS`: one that shifts for longer was killed."""

MOST_BYTES: Final = 4096
"""SSM's limit for a parameter that costs nothing."""


@dataclass(frozen=True, slots=True)
class Record:
    """One deployment.

    Attributes:
        version: the release, as in the file VERSION.
        commit: what it was built from.
        at: when this was written, UTC.
        state: `shifting`, `deployed` or `rolled back`.
        functions: what each function that it changed runs since, and what before.
    """

    version: str
    commit: str
    at: datetime
    state: str
    functions: Mapping[str, Change]

    def to_json(self) -> str:
        """Write it as the parameter has it.

        Raises:
            DeployError: it is too large.
        """
        text = json.dumps(
            {
                "version": self.version,
                "commit": self.commit,
                "at": self.at.astimezone(UTC).isoformat(timespec="seconds"),
                "state": self.state,
                "functions": {name: dataclasses.asdict(change) for name, change in sorted(self.functions.items())},
            },
            separators=(",", ":"),
        )
        if len(text.encode()) > MOST_BYTES:
            raise DeployError(
                f"the record of {len(self.functions)} functions is {len(text.encode())} bytes long, and SSM takes"
                f" {MOST_BYTES}; split the system into two, each with its own --name"
            )
        return text

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote.

        Raises:
            ValueError: somebody else wrote it.
        """
        found = json.loads(text)
        try:
            record = cls(
                str(found["version"]),
                str(found["commit"]),
                datetime.fromisoformat(found["at"]).astimezone(UTC),
                found["state"],
                {name: Change(str(each["now"]), str(each["before"])) for name, each in found["functions"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if record.state not in _STATES:
            raise ValueError(f"no state is called {record.state}")
        return record

    def is_dead(self, now: datetime) -> bool:
        """Tell whether it was killed before its end."""
        return self.state == SHIFTING and now - self.at > DEAD_AFTER

    def is_under_way(self, now: datetime) -> bool:
        """Tell whether it may still go on."""
        return self.state == SHIFTING and not self.is_dead(now)


class Records:
    """The parameter of one system."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.parameter = f"/{name}/deployment"

    def read(self) -> tuple[Record | None, int]:
        """Return the newest record and its number; `None` and 0 before the first deployment.

        Raises:
            DeployError: what is there is no record.
            botocore.exceptions.ClientError: AWS refuses.
        """
        return self._read(self.parameter)

    def _read(self, parameter: str) -> tuple[Record | None, int]:
        try:
            found = self._client.get_parameter(Name=parameter)["Parameter"]
        except ClientError as error:
            if code_of(error) in {"ParameterNotFound", "ParameterVersionNotFound"}:
                return None, 0
            raise
        try:
            return Record.from_json(found["Value"]), found["Version"]
        except ValueError as error:
            raise DeployError(
                f"the parameter {self.parameter} is no record of a deployment ({error}); see who wrote it, and remove"
                f" it: aws ssm delete-parameter --name {self.parameter}"
            ) from None

    def write(self, record: Record) -> int:
        """Keep a record and return its number.

        Raises:
            botocore.exceptions.ClientError: AWS refuses.
        """
        kept = self._client.put_parameter(Name=self.parameter, Value=record.to_json(), Type="String", Overwrite=True)
        return int(kept["Version"])

    def write_after(self, record: Record, seen: int) -> None:
        """Keep a record, if nobody has written one after the number `seen`.

        Raises:
            MovedMeanwhile: somebody has, whose record is the newest again.
            botocore.exceptions.ClientError: AWS refuses.
        """
        number = self.write(record)
        if number == seen + 1:
            return
        # SSM has no write with a condition. The numbers tell who was second, and that one steps back.
        other, _ = self._read(f"{self.parameter}:{number - 1}")
        if other is not None and other.to_json() == record.to_json():
            return  # written twice, by an SDK that did not hear the first answer
        if other is not None:
            self.write(other)
        raise MovedMeanwhile("somebody else deploys or rolls back at the same time; run this again when that has ended")

    def end(self, record: Record) -> None:
        """Keep how a deployment ended, unless the newest record is not the one that it began with.

        Raises:
            MovedMeanwhile: somebody has rolled it back, or deploys.
            DeployError: see `read`.
            botocore.exceptions.ClientError: AWS refuses.
        """
        newest, number = self.read()
        if newest is None or newest.state != SHIFTING or newest.functions != record.functions:
            raise MovedMeanwhile("somebody else has rolled this deployment back, or deploys at the same time")
        self.write_after(record, number)

    def earlier(self) -> Iterator[Record]:
        """Yield the records that SSM has, newest first; what is no record is left out.

        Raises:
            botocore.exceptions.ClientError: AWS refuses.
        """
        try:
            pages = self._client.get_paginator("get_parameter_history").paginate(Name=self.parameter)
            values = [each["Value"] for page in pages for each in page["Parameters"]]
        except ClientError as error:
            if code_of(error) == "ParameterNotFound":
                return
            raise
        for value in reversed(values):
            try:
                yield Record.from_json(value)
            except ValueError:
                continue
