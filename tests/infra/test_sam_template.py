"""The SAM template says what the router is: the same routes, settings and handlers."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_lambda import settings
from router_lambda.settings import HealthSettings, JwtSettings, ReaperSettings, RouterConfigError, RouterSettings
from router_lambda.waker import Stopped

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "sam"
TEMPLATE = FOLDER / "template.yaml"
EVENTS = sorted((FOLDER / "events").iterdir())
NOT_OF_A_ROUTE = ("instance-stopped", "every-minute")


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags as their bare values."""


Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))
DOCUMENT: dict[str, Any] = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
RESOURCES = DOCUMENT["Resources"]
FUNCTIONS = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"].endswith("::Function")}
API = RESOURCES["Api"]["Properties"]
WATCH = {"WakerFunction", "ReaperFunction"}
"""Functions that EventBridge calls, and no request."""


def routes() -> dict[tuple[str, str], tuple[str, bool]]:
    """Return function and whether a token is asked for, by method and path."""
    found = {}
    for name in FUNCTIONS.keys() - WATCH:
        for each in FUNCTIONS[name].get("Events", {}).values():
            route = each["Properties"]
            assert (each["Type"], route["ApiId"]) == ("HttpApi", "Api")
            is_guarded = route.get("Auth") == {"Authorizer": "Token"}
            found[route.get("Method", ""), route.get("Path", "$default")] = (name, is_guarded)
    return found


# The linters


def cfn_lint(template: Path) -> subprocess.CompletedProcess[str]:
    """Run the linter of CloudFormation, which knows the SAM transform."""
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(template), "--regions", "eu-central-1"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_cfn_lint_finds_nothing() -> None:
    """Neither an error nor a warning."""
    done = cfn_lint(TEMPLATE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("right", "wrong"), [("Timeout: 10", "Timeout: ten"), ("FunctionArn", "Arn")])
def test_cfn_lint_would_find_it(tmp_path: Path, right: str, wrong: str) -> None:
    """The check can fail: the linter knows the resources of SAM."""
    (tmp_path / "template.yaml").write_text(TEMPLATE.read_text(encoding="utf-8").replace(right, wrong))
    assert re.search(r"^E\d{4} ", cfn_lint(tmp_path / "template.yaml").stdout, re.MULTILINE)


def test_sam_accepts_it() -> None:
    """By SAM's own word, where it is installed."""
    sam = shutil.which("sam")
    if sam is None:
        pytest.skip("sam is not on the PATH; see docs/lambda.md")
    environment = os.environ | {"SAM_CLI_TELEMETRY": "0"}
    command = [sam, "validate", "--lint", "--region", "eu-central-1", "--template", str(TEMPLATE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_that_is_referred_to_is_there() -> None:
    """Neither linter follows references in a template that SAM is still to transform."""
    text = TEMPLATE.read_text(encoding="utf-8")
    used = set(re.findall(r"!(?:Ref|GetAtt) (\w+)|\$\{(\w+)\}", text))

    assert {first or second for first, second in used} == {*DOCUMENT["Parameters"], "Api", "AuthorizerFunction"}


# The functions


def test_every_function_is_as_agreed() -> None:
    """Python 3.12, 512 MB, ten seconds, traced, from the package that `make lambda-package` builds."""
    assert DOCUMENT["Globals"]["Function"] == {
        "Architectures": ["x86_64"],
        "CodeUri": "../../dist/tl-fif-router-x86_64.zip",
        "Runtime": "python3.12",
        "MemorySize": 512,
        "Timeout": 10,
        "Tracing": "Active",
    }
    assert set(FUNCTIONS) == {"RouterFunction", "AuthorizerFunction", "QueueHealthFunction"} | WATCH
    own = {name for function in FUNCTIONS.values() for name in function}
    assert own <= {"Handler", "Environment", "Policies", "Events", "Timeout"}
    # Nobody waits for them, and they may have to ask EC2 again.
    assert {name: each["Timeout"] for name, each in FUNCTIONS.items() if "Timeout" in each} == dict.fromkeys(WATCH, 60)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_handler_is_there(name: str) -> None:
    """A wrong name would be found out by the first request only."""
    module, function = FUNCTIONS[name]["Handler"].rsplit(".", 1)
    assert module.startswith("router_lambda.")
    assert callable(getattr(importlib.import_module(module), function))


class Asked(Mapping[str, str]):
    """An environment in which nothing is set; `names` is what somebody looked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def read_by(part: type[HealthSettings | JwtSettings | ReaperSettings | RouterSettings]) -> set[str]:
    """Return the settings that a function reads, its switch for the local stack aside."""
    asked = Asked()
    with suppress(RouterConfigError):
        part.from_environment(asked)
    return {name for name in asked.names if name.startswith("TLFIF_")}


def test_the_functions_know_every_setting() -> None:
    """What each of them reads, it is given, and nothing else; the waker reads the router's and uses some of them."""
    given = {name: set(function["Environment"]["Variables"]) for name, function in FUNCTIONS.items()}

    assert len(given["RouterFunction"]) >= 9
    assert given == {
        "RouterFunction": read_by(RouterSettings),
        "AuthorizerFunction": read_by(JwtSettings),
        "QueueHealthFunction": read_by(HealthSettings),
        "WakerFunction": {"TLFIF_REDIS_URL", "TLFIF_BUCKET", "TLFIF_GPU_TAG", "TLFIF_BUDGET_EUR"},
        "ReaperFunction": read_by(ReaperSettings),
    }


@pytest.mark.parametrize("text", ["", "20", "19.50", "0.01", "20,5", "-1", "2e1", " ", "x"])
def test_a_budget_is_what_the_settings_allow(text: str) -> None:
    """Or none, so that the template works as it is."""
    found = DOCUMENT["Parameters"]["BudgetEur"]
    environment = {"TLFIF_BUCKET": "tl-fif", "TLFIF_REDIS_URL": "redis://cache", "TLFIF_BUDGET_EUR": text}
    try:
        RouterSettings.from_environment(environment)
    except RouterConfigError:
        is_allowed = False
    else:
        is_allowed = True

    assert found["Default"] == ""
    assert (re.fullmatch(found["AllowedPattern"], text) is not None) == is_allowed


@pytest.mark.parametrize(
    ("parameter", "default", "allowed"),
    [
        ("MaxGpus", settings.DEFAULT_MAX_GPUS, settings.MAX_GPUS),
        ("MaxSessionMinutes", settings.DEFAULT_MAX_SESSION_MINUTES, settings.MAX_SESSION_MINUTES),
    ],
)
def test_a_number_is_what_the_settings_allow(parameter: str, default: int, allowed: range) -> None:
    """CloudFormation refuses what the function would refuse at its first event."""
    found = DOCUMENT["Parameters"][parameter]
    assert (found["Default"], found["MinValue"], found["MaxValue"]) == (default, allowed[0], allowed[-1])


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        (
            "RouterFunction",
            {"s3:GetObject", "s3:ListBucket", "ec2:DescribeInstances", "ec2:StartInstances", "ec2:StopInstances"},
        ),
        (
            "WakerFunction",
            {"s3:GetObject", "s3:PutObject", "s3:ListBucket", "ec2:DescribeInstances", "ec2:StartInstances"},
        ),
        ("ReaperFunction", {"ec2:DescribeInstances", "ec2:StopInstances"}),
    ],
)
def test_a_role_allows_what_its_function_does(name: str, actions: set[str]) -> None:
    """And nothing else; instances are started and stopped by their tag alone.

    Objects are written below replies/ alone, and read there and below guard/.
    """
    found = set()
    for policy in FUNCTIONS[name]["Policies"]:
        for statement in policy["Statement"]:
            assert statement["Effect"] == "Allow"
            mine = {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])
            if mine & {"ec2:StartInstances", "ec2:StopInstances"}:
                assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/env": "tinyllama"}}
            if mine & {"s3:GetObject", "s3:PutObject"}:
                folders = ("/replies/*",) if "s3:PutObject" in mine else ("/replies/*", "/guard/*")
                assert statement["Resource"].endswith(folders)
            found |= mine
    assert found == actions


# EventBridge


def test_the_watch_looks_every_minute() -> None:
    """The waker besides when an instance has stopped; nobody calls either of them otherwise."""
    clock = {"Type": "Schedule", "Properties": {"Schedule": "rate(1 minute)"}}
    pattern = {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["stopped"]},
    }
    stopped = {"Type": "EventBridgeRule", "Properties": {"Pattern": pattern}}

    assert FUNCTIONS["ReaperFunction"]["Events"] == {"EveryMinute": clock}
    assert FUNCTIONS["WakerFunction"]["Events"] == {"EveryMinute": clock, "Stopped": stopped}


# The API


def test_the_routes_are_those_of_the_description() -> None:
    """Every operation of openapi.yaml, behind the authorizer where it needs a token."""
    paths = yaml.safe_load((ROOT / "router_lambda" / "openapi.yaml").read_text(encoding="utf-8"))["paths"]
    described = {
        (method.upper(), path): bool(item[method].get("security"))
        for path, item in paths.items()
        for method in ("get", "post")
        if method in item
    }

    functions = routes()
    assert functions.pop(("OPTIONS", "/{proxy+}")) == ("RouterFunction", False)
    assert functions.pop(("", "$default")) == ("RouterFunction", True)
    assert functions["GET", "/queue-health"] == ("QueueHealthFunction", False)
    assert {route: is_guarded for route, (_, is_guarded) in functions.items()} == described


def test_the_authorizer_is_asked_each_time_and_answers_simply() -> None:
    """A REQUEST authorizer for the header, payload 2.0, whose verdict nobody keeps."""
    assert API["Auth"]["Authorizers"] == {
        "Token": {
            "FunctionArn": "AuthorizerFunction.Arn",
            "EnableFunctionDefaultPermissions": True,
            "AuthorizerPayloadFormatVersion": "2.0",
            "EnableSimpleResponses": True,
            "Identity": {"Headers": ["Authorization"], "ReauthorizeEvery": 0},
        }
    }


def test_the_gateway_leaves_cors_to_the_router() -> None:
    """Configured, it would ignore what the router answers."""
    assert "CorsConfiguration" not in API


# The samples


def sample(name: str) -> Any:
    """Return one of the events."""
    return json.loads((FOLDER / "events" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", [path for path in EVENTS if path.stem not in NOT_OF_A_ROUTE], ids=lambda path: path.stem
)
def test_a_sample_is_an_event_of_one_of_the_routes(path: Path) -> None:
    """Payload format 2.0; the authorizer's context is there where the route asks for a token."""
    event = sample(path.stem)
    context = event["requestContext"]
    method, route = event["routeKey"].split(" ")
    _, is_guarded = routes()[method, route]
    is_for_authorizer = event.get("type") == "REQUEST"

    assert event["version"] == "2.0"
    assert context["routeKey"] == event["routeKey"]
    assert (context["http"]["method"], context["http"]["path"]) == (method, event["rawPath"])
    assert route in {event["rawPath"], "/{proxy+}"}
    assert is_for_authorizer == (path.stem == "authorizer") == ("identitySource" in event)
    assert ("authorizer" in context) == (is_guarded and not is_for_authorizer)


def test_the_watch_s_samples_are_eventbridge_s() -> None:
    """One that the rule lets through and the waker understands, and one of the clock, which says nothing more."""
    stopped, minute = (sample(name) for name in NOT_OF_A_ROUTE)
    pattern = FUNCTIONS["WakerFunction"]["Events"]["Stopped"]["Properties"]["Pattern"]

    assert [stopped["source"]] == pattern["source"]
    assert [stopped["detail-type"]] == pattern["detail-type"]
    assert Stopped.from_event(stopped) == Stopped("i-1234567890abcdef0", 1_790_000_000.0)
    assert stopped["resources"][0].endswith(f"/{stopped['detail']['instance-id']}")
    assert (minute["source"], minute["detail-type"], minute["detail"]) == ("aws.events", "Scheduled Event", {})
    assert Stopped.from_event(minute) is None
    assert stopped.keys() == minute.keys()


def test_there_is_a_sample_for_every_route() -> None:
    """One for the authorizer, and those of EventBridge."""
    assert {path.name for path in EVENTS} == {
        *("authorizer.json", "infer.json", "options.json", "ping.json", "queue-health.json", "status.json"),
        *("stop.json", *(f"{name}.json" for name in NOT_OF_A_ROUTE)),
    }
