"""The API's description: well-formed, linted, and in step with the code that it describes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from router_lambda import job
from router_lambda.job import FINAL_STATUSES, InvalidJob, is_job_id, parse_request
from router_lambda.queue_health import SLOWEST_SECONDS
from router_lambda.schema import MAX_NESTING, MAX_REPORTED_ERRORS
from router_lambda.status import Phase, State
from router_lambda.throttle import BURST, INTERVAL_SECONDS
from tests import openapi
from tests.openapi import document, operations, read, responses, schema, validator
from worker.engine import Delta, Step
from worker.reply import Reply

ROOT = Path(__file__).parents[2]
NPM = ROOT / ".ci" / "npm"

EXPLAINS = {"title", "description", "default", "examples"}
"""Keywords that do not judge."""

ACROSS_FIELDS = {"oneOf", "contains", "maxLength"}
"""Keywords by which the document says what the router checks in code."""


def test_document_is_openapi_3_1() -> None:
    """By the standard's own schema."""
    assert document()["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(read()).validate()


def test_version_is_the_project_s() -> None:
    """VERSION is the one place that says it."""
    assert document()["info"]["version"] == (ROOT / "VERSION").read_text(encoding="utf-8").strip()


def test_routes_are_the_contract_s() -> None:
    """Those that it lists and `GET /status`, each with a preflight."""
    asked = {("POST", "/infer"), ("POST", "/stop"), ("GET", "/status"), ("GET", "/ping"), ("GET", "/queue-health")}

    assert {(method, path) for method, path, _ in operations()} == asked | {("OPTIONS", path) for _, path in asked}


def test_tokens_are_asked_for_where_users_act() -> None:
    """Not for health or preflights."""
    secured = {(method, path) for method, path, operation in operations() if operation["security"] != []}

    assert secured == {("POST", "/infer"), ("POST", "/stop"), ("GET", "/status")}


# The request


def judging(node: Any) -> Any:
    """Return a schema without what only explains, and without what the router's own cannot say."""
    kept = {name: part for name, part in node.items() if name not in EXPLAINS | ACROSS_FIELDS}
    if "properties" in kept:
        kept["properties"] = {name: judging(part) for name, part in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = judging(kept["items"])
    return kept


def test_request_schema_is_the_router_s() -> None:
    """Every field, type and limit of `router_lambda.job.SCHEMA`, and no other."""
    assert judging(schema("InferRequest")) == job.SCHEMA


def test_defaults_are_the_router_s() -> None:
    """What is filled in for a field that is missing."""
    fields, params = schema("InferRequest")["properties"], schema("Params")["properties"]
    filled = parse_request('{"prompt": "a"}')

    assert fields["idle_minutes"]["default"] == filled["idle_minutes"]
    assert fields["raw"]["default"] == filled["raw"]
    assert params["max_tokens"]["default"] == job.DEFAULT_MAX_TOKENS


def test_limits_are_the_router_s() -> None:
    """Also those that no keyword can say, which stand in descriptions."""
    infer = document()["paths"]["/infer"]["post"]
    throttled = [operation for _, _, operation in operations() if "429" in operation["responses"]]
    fields = schema("InferRequest")["properties"]
    health = document()["components"]["responses"]["QueueAlive"]["content"]["application/json"]["schema"]

    assert f"{job.MAX_BODY_BYTES:,} bytes" in infer["requestBody"]["description"]
    assert f"{MAX_NESTING} levels" in infer["requestBody"]["description"]
    assert f"{job.MAX_PROMPT_BYTES:,} bytes" in fields["prompt"]["description"]
    assert f"{job.MAX_PROMPT_BYTES:,} bytes" in fields["messages"]["description"]
    assert f"{job.JOB_TTL_SECONDS} s" in infer["parameters"][0]["description"]
    often = f"{BURST} calls at once and {60 // INTERVAL_SECONDS} a minute"
    assert [often in operation["description"] for operation in throttled] == [True] * 3
    assert schema("BadFields")["properties"]["errors"]["maxItems"] == MAX_REPORTED_ERRORS
    assert health["properties"]["latencyMs"]["maximum"] == SLOWEST_SECONDS * 1e3


LONGEST, TOO_LONG = "a" * job.MAX_PROMPT_BYTES, "a" * (job.MAX_PROMPT_BYTES + 1)
FORMATS = ("text", "json_object", "json_schema", "xml")
SAID = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": "a"},
        {"messages": [SAID]},
        {"prompt": "a", "messages": [SAID]},
        {"prompt": "a", "messages": [SAID], "raw": True},
        {"prompt": "a", "raw": True},
        {"messages": [SAID], "raw": True},
        {"messages": [SAID], "raw": False},
        {"prompt": LONGEST},
        {"prompt": TOO_LONG},
        {"messages": [SAID | {"content": LONGEST}]},
        {"messages": [SAID | {"content": TOO_LONG}]},
        {"messages": [SAID | {"content": ""}]},
        {"messages": [SAID | {"content": ""}, SAID]},
        *({"prompt": "a", "params": {"response_format": {"type": kind}}} for kind in FORMATS),
        *({"prompt": "a", "params": {"response_format": {"type": kind, "json_schema": {}}}} for kind in FORMATS),
        {"prompt": "a", "params": {"response_format": {"type": "json_schema", "json_schema": None}}},
    ],
    ids=lambda body: json.dumps(body)[:70],
)
def test_document_judges_a_body_as_the_router_does(body: Any) -> None:
    """Also the rules that span fields, which the two write differently."""
    try:
        parse_request(json.dumps(body))
    except InvalidJob:
        accepted = False
    else:
        accepted = True

    assert validator(schema("InferRequest")).is_valid(body) == accepted


@pytest.mark.parametrize("job_id", ["5f0c2b9e-7f4d-4c1a-9b1e-2f6a3c8d9e0f", "5F0C2B9E-7F4D-4C1A-9B1E-2F6A3C8D9E0F"])
def test_job_ids_are_the_router_s(job_id: str) -> None:
    """Lower-case UUIDs of version 4."""
    assert schema("JobId")["pattern"] == f"^{job._UUID4.pattern}$"
    assert validator(schema("StopRequest")).is_valid({"id": job_id}) == is_job_id(job_id)


# The reply


def reply() -> Reply:
    """Return a reply that nothing has come of yet."""
    return Reply("5f0c2b9e-7f4d-4c1a-9b1e-2f6a3c8d9e0f", "a-model", attempt=1, enqueued_at=1.0, now=2.0)


def written(reply: Reply) -> Any:
    """Return the document that the worker uploads."""
    return json.loads(b"".join(reply.document(3.0).blocks))


def test_replies_are_as_described() -> None:
    """From the first snapshot to the last, with every optional part."""
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.5}]}
    judge = validator(schema("ReplyDocument"))
    growing = reply()
    judge.validate(written(growing))
    growing.add(Step(3, [Delta(0, "a", 1, logprobs=[entry])]), 2.5)
    judge.validate(written(growing))
    growing.finish("failed", 3.0, error=("some_code", "some sentence"))
    judge.validate(written(growing))
    done = reply()
    done.add(Step(3, [Delta(0, "a", 1, "stop")]), 2.5)
    done.finish("done", 3.0)
    judge.validate(written(done))


def test_statuses_of_replies_are_the_router_s() -> None:
    """One that goes on and the final ones."""
    assert set(schema("ReplyDocument")["properties"]["status"]["enum"]) == {"streaming"} | FINAL_STATUSES


def test_states_of_the_gpu_are_the_router_s() -> None:
    """And so are the phases of its start."""
    fields = schema("Status")["properties"]

    assert fields["state"]["enum"] == list(get_args(State))
    assert fields["phase"]["enum"] == [*get_args(Phase), None]


@pytest.mark.parametrize("change", [{"status": "queued"}, {"id": "x"}, {"choices": []}, {"extra": 1}, {"error": "x"}])
def test_another_reply_is_not_described(change: dict[str, Any]) -> None:
    """The schema can refuse."""
    assert not validator(schema("ReplyDocument")).is_valid(written(reply()) | change)


# The examples


def shown() -> Iterator[tuple[str, Any, Any]]:
    """Yield a name, the schema and the value of every example."""
    for method, path, operation in operations():
        body = operation.get("requestBody", {"content": {}})
        for media in body["content"].values():
            yield from (
                (f"{method} {path} {name}", media["schema"], it["value"]) for name, it in media["examples"].items()
            )
    for method, path, status, response in responses():
        for media in response.get("content", {}).values():
            for name, example in media["examples"].items():
                yield f"{method} {path} {status} {name}", media["schema"], example["value"]
    for name, header in document()["components"]["headers"].items():
        yield name, header["schema"], header["example"]
    for name, parameter in document()["components"]["parameters"].items():
        yield from ((name, parameter["schema"], it["value"]) for it in parameter["examples"].values())
    yield "ReplyDocument", schema("ReplyDocument"), schema("ReplyDocument")["examples"][0]


@pytest.mark.parametrize(("of", "value"), [pytest.param(of, value, id=name) for name, of, value in shown()])
def test_example_is_as_described(of: Any, value: Any) -> None:
    """Readers copy examples."""
    validator(of).validate(value)


@pytest.mark.parametrize(
    "name", document()["paths"]["/infer"]["post"]["requestBody"]["content"]["application/json"]["examples"]
)
def test_router_accepts_the_example(name: str) -> None:
    """And readers send what they copied."""
    media = document()["paths"]["/infer"]["post"]["requestBody"]["content"]["application/json"]
    sent = media["examples"][name]["value"]

    assert parse_request(json.dumps(sent)) == parse_request('{"prompt": "a"}') | {"prompt": sent.get("prompt")} | sent


def test_problems_tell_their_own_status() -> None:
    """The status in an example's body is the one that it stands under."""
    told = [
        (status, example["value"]["status"])
        for _, _, status, response in responses()
        for example in response.get("content", {}).get(openapi.PROBLEM, {"examples": {}})["examples"].values()
    ]

    assert len(told) >= 20
    assert all(status == own for status, own in told)


# Spectral


def test_lock_names_no_place() -> None:
    """Where npm's packages come from is the machine's own setting; the lock has versions and hashes."""
    wanted = json.loads((NPM / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    packages = json.loads((NPM / "package-lock.json").read_text(encoding="utf-8"))["packages"]

    assert packages.pop("")["devDependencies"] == wanted
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all("integrity" in package and "resolved" not in package for package in packages.values())


def without(*steps: str) -> Callable[[Any], None]:
    """Return what removes a part of the document."""

    def remove(changed: Any) -> None:
        for step in steps[:-1]:
            changed = changed[step]
        del changed[steps[-1]]

    return remove


def _xml_error(changed: Any) -> None:
    content = changed["components"]["responses"]["NotFound"]["content"]
    content["application/xml"] = content.pop(openapi.PROBLEM)


def _edge_error(changed: Any) -> None:
    del changed["components"]["schemas"]["EdgeMessage"]["required"]


PLANTED: list[tuple[str, Callable[[Any], None]]] = [
    ("operation-is-explained", without("paths", "/stop", "post", "summary")),
    ("operation-description", without("paths", "/ping", "get", "description")),
    ("body-has-an-example", without("components", "responses", "Alive", "content", "application/json", "examples")),
    ("error-is-a-problem", _xml_error),
    ("error-is-a-problem", _edge_error),
    ("error-says-when-to-return", without("components", "responses", "Unavailable", "headers", "Retry-After")),
    ("error-says-when-to-return", without("components", "responses", "OverBudget", "headers", "Retry-After")),
    ("oas3-unused-component", without("components", "headers", "Location", "x-leads-to")),
]


def test_spectral_finds_what_is_planted(tmp_path: Path) -> None:
    """One fault a document, each under the rule that is there for it; and none in ours."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; Spectral's rules go untested")
    subprocess.run([NPM / "install"], check=True)
    files = [openapi.FILE]
    for number, (_, plant) in enumerate(PLANTED):
        changed = read()
        plant(changed)
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(yaml.safe_dump(changed), encoding="utf-8")
    spectral, rules = NPM / "node_modules/.bin/spectral", NPM / "spectral.yaml"
    command: list[str | Path] = [spectral, "lint", "--quiet", "--format", "json", "--ruleset", rules, *files]
    run = subprocess.run(command, check=False, capture_output=True, text=True)

    found: dict[str, set[str]] = {file.stem: set() for file in files}
    for fault in json.loads(run.stdout):
        found[Path(fault["source"]).stem].add(fault["code"])
    assert found[openapi.FILE.stem] == set()
    assert [rule in found[str(number)] for number, (rule, _) in enumerate(PLANTED)] == [True] * len(PLANTED)


def test_lint_runs_spectral_strictly() -> None:
    """A warning fails as well."""
    lint = (ROOT / ".ci" / "lint").read_text(encoding="utf-8")

    assert re.search(r"spectral lint .*--fail-severity hint .*spectral\.yaml", lint)
