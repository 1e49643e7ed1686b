"""What several tests of the infrastructure share, made once: plans, and what is applied to an emulated AWS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from local.run_directory import RunDirectory
from tests.infra.ami_world import Node, build_archive
from tests.infra.deployments import Deployment, applying
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.observability_world import CANARIES, Resources, planned_with
from tests.infra.terraform_world import PLANS, ROOTS, Workspace, program
from tests.integration.lambda_world import builder

_FOLDER: Final = Path(__file__).parent
_OFFLINE: Final = "test_checkov.py"
"""Reads plans of what is deployed, and nothing else of it: has its turn while it is removed."""

_DEPLOYED: Final = pytest.StashKey[dict[str, Deployment]]()


def _stage(item: pytest.Item) -> int:
    """Return when a test's turn is: 0 while profiles are applied, 1 when they are, 2 while they go, 3 once gone."""
    if item.path.name == _OFFLINE:
        return 2
    names = getattr(item, "fixturenames", ())
    return 3 if "gone" in names else int("deployments" in names)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of this folder come stage by stage, within one in order."""
    ours = [item for item in items if item.path.parent == _FOLDER]
    if ours:
        first = items.index(ours[0])
        others = [item for item in items if item.path.parent != _FOLDER]
        items[:] = [*others[:first], *sorted(ours, key=_stage), *others[first:]]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin to remove what is deployed as soon as nobody looks at it any more."""
    if item.path.parent == _FOLDER and _stage(item) > 1:
        for deployment in item.session.stash.get(_DEPLOYED, {}).values():
            deployment.begin_to_destroy()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Yield a copy of terraform/ whose roots are ready, before an emulated AWS that holds nothing yet."""
    program()
    with RunDirectory("tl-fif-test-plans-") as directory:
        aws = EmulatedAws(directory.path)
        aws.start()
        made = Workspace(tmp_path_factory.mktemp("plans"), aws)
        made.init()
        for root in ROOTS:
            made.init(root)
        yield made
        aws.stop()


@pytest.fixture(scope="session")
def plans(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the plan of each profile and root, as `terraform show -json` has it, before anything is made."""
    return {profile: workspace.plan(profile) for profile in PLANS}


@pytest.fixture(scope="session")
def observability(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resources]:
    """Return what the module with alarms and dashboard makes by itself, with either canary."""
    program()
    made = Workspace(tmp_path_factory.mktemp("observability"))
    return {canary: planned_with(canary, made) for canary in CANARIES}


@pytest.fixture(scope="session")
def lambda_package(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Return the Lambda package for this machine's kind of processor, `None` where nothing can build one."""
    try:
        python = builder().find_python()
    except builder().NoPython:
        return None
    built: Path = builder().build("x86_64", python, tmp_path_factory.mktemp("package"))
    return built


@pytest.fixture(scope="session")
def deployments(
    request: pytest.FixtureRequest, lambda_package: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Deployment]]:
    """Yield both profiles and the other roots, on their way to an emulated AWS each."""
    program()
    with applying(tmp_path_factory.mktemp("deployments"), lambda_package) as made:
        request.session.stash[_DEPLOYED] = made
        yield made


@pytest.fixture
def gone(deployments: dict[str, Deployment]) -> dict[str, list[str]]:
    """Return, once all is removed, the addresses that Terraform still knows of; a test that asks for it comes last."""
    return {profile: deployment.destroyed() for profile, deployment in deployments.items()}


@pytest.fixture(scope="session", autouse=True)
def _early(request: pytest.FixtureRequest) -> None:
    """Begin to apply before the first test, if any will ask for it: the others run meanwhile."""
    if any("deployments" in getattr(item, "fixturenames", ()) for item in request.session.items):
        # What is wrong with it, or missing, is told again to whoever asks for it, and to nobody else.
        with suppress(Exception, pytest.skip.Exception):
            request.getfixturevalue("deployments")


@pytest.fixture(scope="session")
def node_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive that the image is made from."""
    return build_archive(tmp_path_factory.mktemp("node"))


@pytest.fixture
def node(tmp_path: Path, node_archive: Path) -> Node:
    """Return the root of an image with nothing but that archive."""
    return Node(tmp_path / "node", node_archive)
