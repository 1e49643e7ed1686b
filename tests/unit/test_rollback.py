"""Rolling back in a fake account: by the record, to a release, one function; twice; and what cannot go back."""

from __future__ import annotations

from pathlib import Path

import pytest

from terraform import rollback
from terraform.aliases import TRIES, DeployError
from terraform.rollback import of_release
from tests.deploy_world import AFTER, BEFORE, World
from tests.fake_deploy_aws import NAME
from tests.fake_lambda import KINDS, NEW


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return an account in which 0.9.0 was deployed over 0.8.0."""
    path = tmp_path / "new.zip"
    path.write_bytes(NEW)
    made = World()
    assert made.deployment(path).run() == 0
    made.told.clear()
    return made


def texts(world: World, **options: str) -> list[str]:
    """Roll back and return what is told."""
    return [str(each) for each in world.roll_back(**options)]


def test_back_to_what_was_before(world: World) -> None:
    """By the record."""
    assert texts(world)[0] == "tl-fif-authorizer: 8 → 7"
    assert world.functions.leads() == BEFORE
    assert world.ssm.state() == "rolled back"


def test_twice(world: World) -> None:
    """The second one goes no further back, and writes nothing."""
    world.roll_back()
    writes = world.calls.names.count("put_parameter")
    assert texts(world)[0] == "tl-fif-authorizer is at 7 already"
    assert world.functions.leads() == BEFORE
    assert world.calls.names.count("put_parameter") == writes


def test_what_somebody_has_moved_since_is_left_alone(world: World) -> None:
    """His word is newer than the record."""
    world.functions.by_hand(f"{NAME}-router", "5")
    outcomes = world.roll_back()
    assert world.functions.leads() == BEFORE | {"router": "5"}
    assert all(each.is_well for each in outcomes)
    assert "tl-fif-router is at 5, where somebody else has moved it: left alone" in world.told


def test_to_a_release(world: World) -> None:
    """By what the versions say of themselves; it is not on record as a deployment."""
    assert texts(world, to="0.6.0")[2] == "tl-fif-router: 8 → 5"
    assert world.functions.leads() == dict.fromkeys(KINDS, "5")
    assert texts(world)[2] == "tl-fif-router is at 5, where somebody else has moved it: left alone"


def test_to_a_release_that_terraform_published(world: World) -> None:
    """Its version says what the function does, and the record says which release it was."""
    world.functions.made[f"{NAME}-router"].versions["8"].description = "Answers every route"
    world.roll_back()
    assert texts(world, to="0.9.0") == [f"{NAME}-{kind}: 7 → 8" for kind in KINDS]


def test_to_a_release_of_which_some_is_gone(world: World) -> None:
    """The others go back, and it is told what to do."""
    del world.functions.made[f"{NAME}-router"].versions["5"]
    outcomes = world.roll_back(to="0.6.0")
    assert world.functions.leads() == dict.fromkeys(KINDS, "5") | {"router": "8"}
    assert [each.is_well for each in outcomes] == [True, True, False, True]
    assert "tl-fif-router has no version of 0.6.0, and stays where it is; deploy that release again" in world.told
    assert world.ssm.state() == "deployed"


def test_to_a_release_of_which_nothing_is_left(world: World) -> None:
    """Nothing moves."""
    with pytest.raises(DeployError, match="check out its tag"):
        world.roll_back(to="0.1.0")
    assert world.functions.leads() == AFTER


def test_one_function(world: World) -> None:
    """The others stay, and so does the record, by which they can still go back."""
    assert texts(world, function=f"{NAME}-router", version="6") == ["tl-fif-router: 8 → 6"]
    assert world.functions.leads() == AFTER | {"router": "6"}
    assert world.ssm.state() == "deployed"


def test_what_another_push_deployed_is_left_alone(world: World) -> None:
    """The smoke test fails behind a push that deployed nothing new: the release before is not to blame."""
    assert texts(world, commit="c10") == ["the last deployment is of 0.9.0 c9, and not of c10: left alone"]
    assert (world.functions.leads(), world.ssm.state()) == (AFTER, "deployed")
    assert len(texts(world, commit="c9")) == len(KINDS)
    assert (world.functions.leads(), world.ssm.state()) == (BEFORE, "rolled back")


def test_another_push_s_deployment_goes_on(world: World) -> None:
    """Its record is not touched, though it says `shifting`."""
    parameter = world.ssm.values[f"/{NAME}/deployment"]
    parameter.append(parameter[0])
    world.roll_back(commit="c10")
    assert world.ssm.state() == "shifting"


def test_a_version_that_is_gone(world: World) -> None:
    """The others go back; it says how to have it again."""
    del world.functions.made[f"{NAME}-router"].versions["7"]
    outcomes = world.roll_back()
    assert world.functions.leads() == BEFORE | {"router": "8"}
    assert not all(each.is_well for each in outcomes)
    assert any("the version 7 of tl-fif-router is gone" in line and "make deploy" in line for line in world.told)


def test_a_function_that_is_gone(world: World) -> None:
    """It is told; the others go back."""
    world.functions.made[f"{NAME}-router"].alias = None
    outcomes = world.roll_back()
    assert [each.is_well for each in outcomes] == [True, True, False, True]
    assert "run terraform apply" in world.told[2]


def test_nothing_on_record() -> None:
    """It says what else there is."""
    with pytest.raises(DeployError, match="name a release with --to"):
        World().roll_back()


def test_somebody_moves_it_all_the_time(world: World) -> None:
    """It gives up, says so, and goes on with the next."""
    name, moves = f"{NAME}-router", [0]

    def move(_number: int, call: str, done: bool) -> None:  # noqa: FBT001 - as `Calls` calls it
        if call == "get_alias" and done:
            moves[0] += 1
            world.functions.by_hand(name, "8")

    world.calls.act = move
    outcomes = world.roll_back()
    assert [each.is_well for each in outcomes] == [True, True, False, True]
    assert "somebody else moves it all the time" in str(outcomes[2])
    assert moves[0] >= 2 * TRIES


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ([], None),
        ([("$LATEST", "0.8.0 c")], None),
        ([("1", "0.8.0 c1"), ("12", "0.8.0 c2"), ("9", "0.8.0 c3")], "12"),
        ([("1", "0.8.0"), ("2", "0.8.01 c"), ("3", "10.8.0 c"), ("4", "")], "1"),
    ],
)
def test_the_version_of_a_release(versions: list[tuple[str, str]], found: str | None) -> None:
    """The newest by number, whose description begins with the whole release."""
    listed = [{"Version": number, "Description": said} for number, said in versions]
    assert of_release(listed, "0.8.0") == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--function", "tl-fif-router"], "--function and --function-version together"),
        (["--function-version", "7"], "--function and --function-version together"),
        (["--to", "0.8.0", "--function", "tl-fif-router", "--function-version", "7"], "one of --to, --function"),
        (["--to", "0.8.0", "--of-commit", "c9"], "one of --to, --function and --of-commit"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is done."""
    with pytest.raises(SystemExit):
        rollback.main(arguments)
    assert said in capsys.readouterr().err


def test_no_region(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to set."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert rollback.main([]) == 1
    assert "set AWS_REGION" in capsys.readouterr().err
