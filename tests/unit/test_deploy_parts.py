"""The parts of a deployment, and its command line."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from terraform import aliases, deploy, functions, summary
from terraform.aliases import DeployError, MovedMeanwhile
from terraform.functions import Function, Package
from terraform.stop import Stop, Stopped
from tests.deploy_world import World
from tests.fake_deploy_aws import NAME
from tests.fake_lambda import NEW, OLD, sha


@pytest.fixture
def world() -> World:
    """Return an account with a system of 0.8.0."""
    return World()


@pytest.mark.parametrize(
    ("name", "handler", "kind"),
    [
        ("tl-fif-router", "router_lambda.handler.handler", "router"),
        ("tl-fif-queue-health", "router_lambda.queue_health.handler", "queue-health"),
        ("tl-fif-test-router", "router_lambda.handler.handler", None),
        ("tl-fifth-router", "router_lambda.handler.handler", None),
        ("tl-fif-router", "index.handler", None),
        ("tl-fif", "router_lambda.handler.handler", None),
    ],
)
def test_whose_function_it_is(name: str, handler: str, kind: str | None) -> None:
    """That of another system, whose name begins alike, is not ours."""
    assert functions.kind_of("tl-fif", name, handler) == kind


def test_packages_of_both_processors(tmp_path: Path) -> None:
    """Each function gets the zip of its own; one zip does not fit two."""
    both = [Function("a", "router", "arm64"), Function("b", "waker", "x86_64")]
    for architecture in ("arm64", "x86_64"):
        (tmp_path / f"tl-fif-router-{architecture}.zip").write_bytes(architecture.encode())
    found = functions.packages(both, tmp_path)
    assert {name: each.content for name, each in found.items()} == {"arm64": b"arm64", "x86_64": b"x86_64"}
    with pytest.raises(DeployError, match="arm64 and x86_64"):
        functions.packages(both, tmp_path, tmp_path / "tl-fif-router-arm64.zip")


def test_somebody_uploads_at_the_same_time(world: World) -> None:
    """Lambda publishes the code that is meant, or none."""
    name = f"{NAME}-router"

    def upload(_number: int, call: str, done: bool) -> None:  # noqa: FBT001 - as `Calls` calls it
        if call == "update_function_code" and done:
            latest = world.functions.made[name].latest
            latest.content, latest.sha = b"another's", sha(b"another's")

    world.calls.act = upload
    with pytest.raises(DeployError, match="somebody else changes it at the same time"):
        functions.publish(world.functions, Function(name, "router", "arm64"), Package.of(NEW), "0.9.0", lambda _: None)
    assert world.functions.made[name].count == 7


def test_the_old_code_is_what_it_was(world: World) -> None:
    """The fake has deployed 0.8.0: else all of the above would mean little."""
    assert all(each.versions["7"].content == OLD for each in world.functions.made.values())


def test_a_change_that_was_made_and_not_heard_of(world: World) -> None:
    """The SDK sends it again, and it is refused for having been made: that is not somebody else's."""
    name = f"{NAME}-router"
    found = aliases.read(world.functions, name)
    assert found is not None
    moved = aliases.move(world.functions, found, "6", {"5": 0.1})
    assert aliases.move(world.functions, found, "6", {"5": 0.1}) == moved
    for version, weights in (("5", {"5": 0.1}), ("6", {"5": 0.2}), ("6", {})):
        with pytest.raises(MovedMeanwhile, match="6, 10% of the calls to 5"):
            aliases.move(world.functions, found, version, weights)


def test_a_summary_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed, and the deployment stands."""
    summary.write(tmp_path / "nowhere" / "deploy.md", "## It is deployed")
    assert "## It is deployed" in capsys.readouterr().err


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back who listens for signals."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_signals(handlers: None) -> None:
    """The first asks, and the second would kill."""
    stop = Stop()
    stop.listen()
    stop.check()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped):
        stop.pause(60)
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_what_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """CodeBuild says it, GitHub says it, git says it, or nobody does."""
    for name in ("CODEBUILD_RESOLVED_SOURCE_VERSION", "GITHUB_SHA"):
        monkeypatch.delenv(name, raising=False)
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", deploy.commit())
    monkeypatch.setenv("GITHUB_SHA", "1234567890abcdef")
    assert deploy.commit() == "1234567890ab"
    monkeypatch.setenv("CODEBUILD_RESOLVED_SOURCE_VERSION", "fedcba0987654321")
    assert deploy.commit() == "fedcba098765"
    monkeypatch.delenv("CODEBUILD_RESOLVED_SOURCE_VERSION")
    monkeypatch.delenv("GITHUB_SHA")
    monkeypatch.setenv("PATH", "")
    assert deploy.commit() == "unknown"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--weight", "60"], "60 is not between 1 and 50"),
        (["--weight", "0"], "0 is not between"),
        (["--canary-seconds", "601"], "601 is not between 0 and 600"),
        (["--watch-seconds", "-1"], "-1 is not between"),
        (["--watch-seconds", "nan"], "nan is not between"),
    ],
)
def test_options_out_of_bounds(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is done."""
    with pytest.raises(SystemExit) as ended:
        deploy.main(arguments)
    assert ended.value.code == deploy.EXIT_USAGE
    assert said in capsys.readouterr().err


def test_no_region(handlers: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to set."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert deploy.main([]) == deploy.EXIT_USAGE
    assert "set AWS_REGION" in capsys.readouterr().err
