"""Redis as a simulation sees it: fakeredis, which runs the real scripts, behind a network.

The clients offer the commands of redis-py's asyncio client, each as one call through the network. BLPOP is served as
Redis does it: whoever waits longest gets the next id, even if it has stopped listening meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Self

import fakeredis
import redis

from router_lambda.job import GPU_CLOSING, QUEUE_ATTEMPTS, QUEUE_OPEN, QUEUE_READY, cancel_key, job_key, lease_key
from tests.simulation.ledger import Broken, Ledger
from tests.simulation.loop import Process
from tests.simulation.network import Call, Network
from worker import lua
from worker.queue import JobQueue, Renewal

SCRIPTS: Final = ("CLAIM", "GIVE_BACK", "RENEW", "RETAKE", "ACKNOWLEDGE", "RELEASE", "SWEEP", "BEGIN", "CLOSE")

_NEVER_PUSHING: Final = frozenset(
    {"RENEW", "RETAKE", "ACKNOWLEDGE", "BEGIN", "CLOSE", "mget", "set", "exists", "keys", "delete"}
)


class RedisServer:
    """One Redis, and everybody who waits in a BLPOP."""

    def __init__(self, network: Network, ledger: Ledger) -> None:
        self.network = network
        self.ledger = ledger
        self._server = fakeredis.FakeServer(version=(6, 2))
        self.raw: redis.Redis = self.client()
        self._may_be_ready = True
        self._waiting: deque[tuple[Call, Callable[[], Any]]] = deque()
        self._claim = self.raw.register_script(lua.CLAIM)

    def client(self) -> redis.Redis:
        """Return a client without a network in between."""
        made: redis.Redis = fakeredis.FakeRedis(server=self._server, single_connection_client=True)
        return made

    def left(self) -> tuple[list[str], list[str]]:
        """Return the keys that are there, without the ready list, and the ids in that."""
        keys, ready = (
            [each.decode() for each in found if isinstance(each, bytes)]
            for found in (self.raw.keys(), self.raw.lrange(QUEUE_READY, 0, -1))
        )
        return [key for key in keys if key != QUEUE_READY], ready

    def wait(self, call: Call, seconds: float, then: Callable[[], Any]) -> None:
        """Let a BLPOP wait for an id, and do what was sent behind it in the same moment."""
        self._waiting.append((call, then))
        self.network.later(seconds, self._give_up, call)
        self._hand_out()

    def serve(self) -> None:
        """Hand out ids to those who wait, after a command that may have brought some."""
        self._may_be_ready = True
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._may_be_ready:
            call, then = self._waiting[0]
            if call.process.is_dead:
                self._waiting.popleft()
                continue
            popped: Any = self.raw.lpop(QUEUE_READY)
            if popped is None:
                self._may_be_ready = False
                return
            self._waiting.popleft()
            self.ledger.note(call.process.name, "popped", popped.decode()[:4])
            self.network.reply(call, [(QUEUE_READY.encode(), popped), then()])

    def _give_up(self, call: Call) -> None:
        for waiting in self._waiting:
            if waiting[0] is call:
                self._waiting.remove(waiting)
                self.network.reply(call, [None, waiting[1]()])
                return

    def claim(self, process: Process, arguments: Sequence[Any]) -> Any:
        """Run the script that takes leases and hold what it did against the rules."""
        before: dict[str, tuple[Any, Any]] = {
            job_id: (self.raw.get(lease_key(job_id)), self.raw.exists(cancel_key(job_id)))
            for job_id in self.ledger.jobs
        }
        answer: Any = self._claim(keys=arguments[:3], args=arguments[3:])
        for said in answer[1]:
            job_id, state, *held = said
            name = job_id.decode()
            self.ledger.note(process.name, "CLAIM", name[:4], state.decode(), *held[:1])
            if held:
                holder, marks = before[name]
                claim = (state.decode(), held[0])
                self.ledger.claimed(process, name, claim, holder=holder, is_cancelled=marks == 1)
        return answer

    def run_script(self, process: Process, name: str, script: Any, keys: list[str], args: list[Any]) -> Any:
        """Run a script of the worker and hold what it did against the rules."""
        job_id = str(args[0])
        result: Any = script(keys=keys, args=args)
        if name == "ACKNOWLEDGE":
            self._acknowledged(process, args[4:], refused={each.decode() for each in result})
        elif name == "GIVE_BACK":
            for job_id in args[2:]:
                self.ledger.note(process.name, name, job_id[:4])
                self.ledger.given_back(process, job_id)
        elif name == "BEGIN":
            self.ledger.note(process.name, "shows its first heartbeat")
        elif name == "CLOSE" and result:
            self.ledger.note(process.name, name)
            if (found := self.raw.zrange(QUEUE_OPEN, 0, -1)) and self.raw.exists(GPU_CLOSING):
                raise Broken(f"{process.name} closed the GPU while {found} were open")
        elif result:
            if name == "RELEASE":
                self.ledger.released(process, job_id)
            self.ledger.note(process.name, name, (job_id[:4], result) if name in {"RELEASE", "RETAKE"} else result)
        return result

    def _acknowledged(self, process: Process, job_ids: list[str], *, refused: set[str]) -> None:
        for job_id in job_ids:
            if job_id not in refused:
                self.ledger.note(process.name, "ACKNOWLEDGE", job_id[:4])
                self.ledger.acknowledged(process, job_id, left=self._left_of(job_id))

    def _left_of(self, job_id: str) -> list[str]:
        """Return where a job can still be found; a second entry in the ready list does no harm."""
        look = self.raw.pipeline(transaction=False)
        look.exists(job_key(job_id), lease_key(job_id), cancel_key(job_id))
        look.zscore(QUEUE_OPEN, job_id)
        look.hget(QUEUE_ATTEMPTS, job_id)
        found = zip(("keys", QUEUE_OPEN, QUEUE_ATTEMPTS), look.execute(), strict=True)
        return [name for name, is_there in found if is_there]


class RemoteRedis:
    """A worker's client: whatever command is asked for goes through the network."""

    def __init__(self, server: RedisServer, process: Process) -> None:
        self._server = server
        self._process = process

    def __getattr__(self, command: str) -> Callable[..., Awaitable[Any]]:
        run = getattr(self._server.raw, command)

        async def call(*args: Any, **options: Any) -> Any:
            return await self._call(command, lambda: run(*args, **options))

        return call

    async def scan_iter(self, match: str, count: int) -> AsyncIterator[bytes]:
        """Yield the keys of a pattern."""
        for key in await self.keys(match):
            yield key

    def register_script(self, script: str) -> Callable[..., Awaitable[Any]]:
        """Return what runs a script."""
        (name,) = (name for name in SCRIPTS if getattr(lua, name) == script)
        prepared = self._server.raw.register_script(script)

        async def call(keys: list[str], args: list[Any]) -> Any:
            return await self._call(name, lambda: self._server.run_script(self._process, name, prepared, keys, args))

        return call

    def pipeline(self, *, transaction: bool) -> _RemotePipeline:
        """Collect commands for one call."""
        return _RemotePipeline(self._server.raw.pipeline(transaction=transaction), self._call)

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    async def _call(self, name: str, run: Callable[[], Any]) -> Any:
        def effect() -> Any:
            result = run()
            if name not in _NEVER_PUSHING:
                self._server.serve()
            return result

        return await self._server.network.call(self._process, "redis", name, effect)


class RemoteLine:
    """A worker's connection for taking jobs."""

    def __init__(self, server: RedisServer, process: Process) -> None:
        self._server = server
        self._process = process

    async def ask(self, *commands: tuple[Any, ...], within: float) -> list[Any]:
        """Send BLPOP with the claim of what it pops, or a claim alone."""
        name, _sha, _count, *arguments = commands[-1]
        assert name == "EVALSHA"

        def claim() -> Any:
            return self._server.claim(self._process, arguments)

        network = self._server.network
        if len(commands) == 1:
            return [await network.call(self._process, "redis", "CLAIM", claim)]
        (_, _, seconds) = commands[0]
        call = network.open(self._process, "redis", "BLPOP")

        def arrive() -> None:
            if network.is_cut(call):
                call.is_lost = True
                network.reply(call, None)
            elif not self._process.is_dead:
                self._server.wait(call, seconds, claim)

        network.later(0.001, arrive)
        answers: list[Any] = await network.answer(call)
        return answers

    async def hang_up(self) -> None:
        """Do nothing: there is no connection."""

    aclose = hang_up


class _RemotePipeline:
    def __init__(self, commands: Any, call: Callable[[str, Callable[[], Any]], Awaitable[Any]]) -> None:
        self._commands = commands
        self._call = call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def __getattr__(self, command: str) -> Any:
        return getattr(self._commands, command)

    async def execute(self) -> Any:
        return await self._call("pipeline", self._commands.execute)


class _InOrder(set[str]):
    def __iter__(self) -> Any:
        return iter(sorted(super().__iter__()))


class SimulatedQueue(JobQueue):
    """The real queue; only its sets of ids come in an order that is the same in every interpreter."""

    def __init__(self, server: RedisServer, process: Process) -> None:
        line: Any = RemoteLine(server, process)
        client: Any = RemoteRedis(server, process)
        super().__init__(line, client, process.worker_id)

    async def renew(self, job_ids: Any) -> Renewal:
        """See `JobQueue.renew`."""
        renewal = await super().renew(job_ids)
        return Renewal(_InOrder(renewal.lost), _InOrder(renewal.free))
