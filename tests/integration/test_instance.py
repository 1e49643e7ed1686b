"""How an instance is stopped, and what happens when it cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from structlog.testing import capture_logs

from worker.instance import PAUSES, Instance

HALT = (sys.executable, "-c", "import sys, pathlib; pathlib.Path(sys.argv[1]).touch()")
AWAY = EndpointConnectionError(endpoint_url="http://ec2")
REFUSED = ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "StopInstances")


class Ec2:
    """Fails as often as the test wants, then stops."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.stopped: list[str] = []
        self.slept: list[float] = []

    def stop_instances(self, InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        """Stop or fail."""
        if self.failures:
            raise self.failures.pop(0)
        self.stopped += InstanceIds

    def instance(self, **changed: Any) -> Instance:
        """Return an instance of this EC2."""
        fields: dict[str, Any] = {"id": "i-1", "make_client": lambda: self, "sleep": self.slept.append}
        return Instance(**fields | changed)


def test_it_stops_itself() -> None:
    """By its id, at once."""
    ec2 = Ec2()
    assert ec2.instance().stop()
    assert (ec2.stopped, ec2.slept) == (["i-1"], [])


@pytest.mark.parametrize("failure", [AWAY, REFUSED])
def test_a_failure_is_retried(failure: Exception) -> None:
    """With growing pauses, each failure in the log."""
    ec2 = Ec2(failure, failure)
    with capture_logs() as logs:
        assert ec2.instance().stop()
    assert ec2.slept == list(PAUSES[:2])
    assert [line["log_level"] for line in logs] == ["warning", "warning", "info"]


def test_the_machine_halts_when_ec2_does_not_stop_it(tmp_path: Path) -> None:
    """After all tries."""
    ec2 = Ec2(*[AWAY] * 5)
    assert ec2.instance(halt_command=(*HALT, str(tmp_path / "halted"))).stop()
    assert ec2.slept == list(PAUSES)
    assert (tmp_path / "halted").exists()


def test_without_an_id_the_machine_halts(tmp_path: Path) -> None:
    """No call to EC2 could name it."""
    ec2 = Ec2()
    assert ec2.instance(id=None, halt_command=(*HALT, str(tmp_path / "halted"))).stop()
    assert (tmp_path / "halted").exists()
    assert ec2.stopped == []


@pytest.mark.parametrize("command", [("/nonexistent",), (sys.executable, "-c", "import sys; sys.exit('not allowed')")])
def test_what_cannot_be_stopped_says_so(command: tuple[str, ...]) -> None:
    """With the command's own words."""
    ec2 = Ec2(*[AWAY] * 5)
    with capture_logs() as logs:
        assert not ec2.instance(halt_command=command).stop()
    assert logs[-1]["event"] == "TLFIF_HALT_COMMAND failed"
    assert "not allowed" in str(logs[-1]) or "No such file" in str(logs[-1])


def test_a_halt_command_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has to decide then."""
    monkeypatch.setattr("worker.instance.HALT_SECONDS", 0.1)
    assert not Instance(None, (sys.executable, "-c", "import time; time.sleep(60)")).stop()


def test_without_a_command_a_failure_is_final() -> None:
    """An instance that EC2 does not stop runs on."""
    assert not Ec2(*[AWAY] * 5).instance().stop()


def test_where_there_is_nothing_to_stop_nothing_fails() -> None:
    """On a machine of one's own the worker just ends."""
    with capture_logs() as logs:
        assert Instance(None).stop()
    assert "TLFIF_HALT_COMMAND" in logs[0]["event"]
