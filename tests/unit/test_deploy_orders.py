"""Every order in which a deployment meets its own death, a failure, a rollback, another deployment, or somebody's hand.

Something happens before or after each single call that a deployment makes; docs/failures.md says what must come of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from terraform.deployment import EXIT_FAILED, EXIT_SOMEBODY_ELSE, Deployment
from tests.deploy_world import AFTER, BEFORE, Killed, World
from tests.fake_deploy_aws import NAME, refusal
from tests.fake_lambda import KINDS, NEW

EARLY = 10
"""Of so many calls at the beginning, none has looked at more than the first function and the record."""

Act = Callable[[World], None]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the new code."""
    path = tmp_path_factory.mktemp("deploy") / "new.zip"
    path.write_bytes(NEW)
    return path


@functools.cache
def calls_of_one(package: Path) -> list[str]:
    """Return the calls of a deployment that nothing disturbs."""
    world = World()
    assert world.deployment(package).run() == 0
    assert world.functions.leads() == AFTER
    return world.calls.names


def moments(package: Path) -> list[tuple[int, bool]]:
    """Return every moment of a deployment: before and after each call."""
    return [(number, done) for number in range(1, len(calls_of_one(package)) + 1) for done in (False, True)]


def disturb(world: World, moment: tuple[int, bool], act: Act) -> None:
    """Let something happen at one moment of the next deployment, once."""
    waiting = [act]

    def at(number: int, _name: str, done: bool) -> None:  # noqa: FBT001 - as `Calls` calls it
        if (number, done) == moment and waiting:
            waiting.pop()(world)

    world.calls.act = at


def kill(_world: World) -> None:
    """Die."""
    raise Killed


def ask_to_stop(deployment: Deployment) -> Act:
    """Return what does as a signal would."""
    return lambda _: deployment.stop._asked.set()


def run_killed(world: World, package: Path) -> None:
    """Run a deployment that dies, without any of what it would do on its way out."""
    deployment = world.deployment(package)
    deployment._undo = lambda *_: "dead"  # type: ignore[method-assign]
    with pytest.raises(Killed):
        deployment.run()
    world.calls.act = None


def is_settled(leads: dict[str, str]) -> bool:
    """Tell whether no function is in a canary."""
    return not any("+" in each for each in leads.values())


def test_a_deployment_has_enough_moments(package: Path) -> None:
    """The tests below would hold of a deployment that makes no calls."""
    names = calls_of_one(package)
    assert names.count("update_alias") == 2 * len(KINDS)
    assert names.count("put_parameter") == 2
    assert names.index("put_parameter") < names.index("update_alias")
    last_call = max(index for index, name in enumerate(names) if name == "invoke")
    assert last_call < names.index("update_alias")


def test_killed_and_rolled_back_by_hand(package: Path) -> None:
    """Wherever it dies, a rollback leads everybody to what was before; before the record nothing was moved."""
    for moment in moments(package):
        world = World()
        disturb(world, moment, kill)
        run_killed(world, package)
        if world.ssm.state() is None:
            assert world.functions.leads() == BEFORE, moment
        elif world.ssm.state() == "shifting":
            assert all(each.is_well for each in world.roll_back()), moment
            assert world.functions.leads() == BEFORE, moment
            assert world.ssm.state() == "rolled back", moment
        else:
            assert world.functions.leads() == AFTER, moment


def test_killed_and_deployed_again(package: Path) -> None:
    """Soon after, the next one waits for somebody to look; half an hour later it puts back and goes on by itself."""
    for moment in moments(package):
        world = World()
        disturb(world, moment, kill)
        run_killed(world, package)
        if world.ssm.state() == "shifting":
            leads = world.functions.leads()
            assert world.deployment(package).run() == EXIT_SOMEBODY_ELSE, moment
            assert world.functions.leads() == leads, moment
            assert "make rollback" in world.told[-1]
            world.time += timedelta(minutes=31)
        assert world.deployment(package).run() == 0, moment
        assert world.functions.leads() == AFTER, moment
        assert world.ssm.state() == "deployed", moment


def test_told_to_stop(package: Path) -> None:
    """A signal at any moment: nothing of it is left; at the very end it is too late, and all of it stands."""
    for moment in moments(package):
        world = World()
        deployment = world.deployment(package)
        disturb(world, moment, ask_to_stop(deployment))
        status = deployment.run()
        assert world.functions.leads() == (AFTER if status == 0 else BEFORE), moment
        assert status in {0, EXIT_FAILED}
        assert world.ssm.state() in ({"deployed"} if status == 0 else {None, "rolled back"}), moment


def test_a_call_that_fails(package: Path) -> None:
    """Refused before it has an effect, or after one whose answer is lost."""
    for moment in moments(package):
        world = World()

        def fail(_: World) -> None:
            raise refusal("ServiceException", "try again")

        disturb(world, moment, fail)
        status = world.deployment(package).run()
        # What fails at pruning fails nothing; what AWS does not say it has kept may be kept.
        assert world.functions.leads() == (AFTER if status == 0 else BEFORE), moment
        assert is_settled(world.functions.leads())
        if status:
            assert status == EXIT_FAILED
            assert "the reason: " in world.told[-1]


def test_a_rollback_meanwhile(package: Path) -> None:
    """Whoever rolls back wins: the deployment ends, and nobody is left at what it wanted."""
    for moment in moments(package):
        world = World()

        def act(world: World) -> None:
            if world.ssm.state() is not None:
                world.roll_back()

        disturb(world, moment, act)
        status = world.deployment(package).run()
        record = world.ssm.state()
        assert is_settled(world.functions.leads()), moment
        if record == "rolled back":
            assert world.functions.leads() == BEFORE, moment
            assert status in {EXIT_SOMEBODY_ELSE, 0}, moment
        else:  # it came before the record, or found nothing moved yet
            assert (status, world.functions.leads()) == (0, AFTER), moment


def test_another_deployment_meanwhile(package: Path, tmp_path: Path) -> None:
    """One of the two is deployed, on every function, and the other one says that it is not."""
    other = tmp_path / "other.zip"
    other.write_bytes(b"the code of somebody else")
    for moment in moments(package):
        world = World()
        statuses: list[int] = []

        def act(world: World, statuses: list[int] = statuses) -> None:
            statuses.append(world.deployment(other, version="0.9.1").run())

        disturb(world, moment, act)
        first = world.deployment(package).run()
        leads, running = world.functions.leads(), set()
        assert is_settled(leads), moment
        for kind, version in leads.items():
            running.add(world.functions.made[f"{NAME}-{kind}"].versions[version].content)
        assert len(running) == 1, moment
        (second,) = statuses
        if first == 0 and second == 0:  # one after the other; the second one deployed last, or had ended before
            assert running == ({NEW} if moment[0] <= EARLY else {other.read_bytes()}), moment
            continue
        assert sorted([first == 0, second == 0]) == [False, True], moment
        assert running == {NEW if first == 0 else other.read_bytes()}, moment


def test_somebody_moves_an_alias_by_hand(package: Path) -> None:
    """What he moved stays as he left it, and what the deployment moved goes back."""
    names = calls_of_one(package)
    last_look = len(names) - names[::-1].index("get_alias") - len(KINDS) + 2  # of the second function
    for moment in moments(package):
        world = World()
        disturb(world, moment, lambda world: world.functions.by_hand(f"{NAME}-queue-health", "5"))
        status = world.deployment(package).run()
        leads = world.functions.leads()
        others = {version for kind, version in leads.items() if kind != "queue-health"}
        if status == 0:  # it came when the deployment was over, or before it had looked: then 5 is what was before
            assert others == {"8"}, moment
            assert leads["queue-health"] == ("8" if moment[0] <= EARLY else "5"), moment
            assert moment[0] <= EARLY or moment[0] >= last_look, moment
        else:
            assert (status, others, leads["queue-health"]) == (EXIT_SOMEBODY_ELSE, {"7"}, "5"), moment


def test_terraform_applies_meanwhile(package: Path) -> None:
    """It publishes versions and changes settings, and moves no alias; what is deployed is what was proven."""
    for moment in moments(package):
        world = World()

        def apply(world: World) -> None:
            latest = world.functions.made[f"{NAME}-waker"].latest
            latest.environment = latest.environment | {"TLFIF_MAX_GPUS": "2"}
            world.functions.on_publish_version(f"{NAME}-waker", latest.sha, "what it does")

        disturb(world, moment, apply)
        assert world.deployment(package).run() == 0, moment
        leads = world.functions.leads()
        version = world.functions.made[f"{NAME}-waker"].versions[leads["waker"]]
        assert version.content == NEW, moment
        assert {kind: leads[kind] for kind in KINDS if kind != "waker"} == {
            kind: "8" for kind in KINDS if kind != "waker"
        }
