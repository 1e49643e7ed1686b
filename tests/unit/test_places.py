"""Who gets the next free place: jobs and requests in every order in which they can come and go."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from worker.places import Kind, Places


class Scene:
    """Jobs (`j1`) and requests (`r1`) that come when the test says so; `inside` has those with a place, in order."""

    def __init__(self, tasks: TaskGroup, limit: int = 2) -> None:
        self.changes = 0
        self.places = Places(limit, self._changed)
        self.inside: list[str] = []
        self.refused: list[str] = []
        self._tasks = tasks
        self._scopes: dict[str, anyio.CancelScope] = {}

    def _changed(self) -> None:
        self.changes += 1

    async def come(self, *names: str) -> None:
        """Let some come, one after the other."""
        for name in names:
            self._scopes[name] = anyio.CancelScope()
            self._tasks.start_soon(self._take, name)
            await settle()

    async def _take(self, name: str) -> None:
        with self._scopes[name]:
            (self.inside if await self.places.take(kind(name)) else self.refused).append(name)

    async def leave(self, name: str) -> None:
        """Let one with a place go."""
        self.inside.remove(name)
        self.places.leave(kind(name))
        await settle()

    async def give_up(self, name: str) -> None:
        """Cancel one in line."""
        self._scopes[name].cancel()
        await settle()


def kind(name: str) -> Kind:
    """Return what somebody is."""
    return "job" if name.startswith("j") else "request"


async def settle() -> None:
    """Let everybody notice what has happened."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_as_many_as_there_are_places() -> None:
    """Of whichever kind; the next one waits for somebody to leave."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        await scene.come("j1", "r1", "r2")
        assert (scene.inside, scene.places.requests, scene.places.waiting_requests) == (["j1", "r1"], 1, 1)

        await scene.leave("j1")
        assert (scene.inside, scene.places.requests, scene.places.waiting_requests) == (["r1", "r2"], 2, 0)


async def test_both_kinds_get_places_in_turn() -> None:
    """However many of the other kind came before, and each kind in its own order."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=1)
        await scene.come("r1", "r2", "r3", "r4", "j1", "j2")
        order = ["r1"]
        for _ in range(5):
            await scene.leave(scene.inside[0])
            order += scene.inside

    assert order == ["r1", "j1", "r2", "j2", "r3", "r4"]


async def test_who_gives_up_is_passed_over() -> None:
    """In line; it has taken nothing."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=1)
        await scene.come("j1", "r1", "r2")
        await scene.give_up("r1")
        await scene.leave("j1")
        assert scene.inside == ["r2"]
        await scene.leave("r2")
        await scene.come("j2")
        assert scene.inside == ["j2"]


@pytest.mark.parametrize("first", ["r1", "j1"])
async def test_who_gives_up_as_the_place_comes_passes_it_on(first: str) -> None:
    """The place is not lost."""
    places = Places(1)
    assert await places.take("job")
    tasks = [asyncio.create_task(places.take(kind(name))) for name in (first, "r2")]
    await settle()
    places.leave("job")
    tasks[0].cancel()  # it has the place, and has not noticed

    assert await tasks[1]
    assert tasks[0].cancelled()
    places.leave("request")
    assert await places.take("job")


async def test_a_drain_refuses_requests_alone() -> None:
    """Those in line, and those that come later; who has a place keeps it, and jobs are their worker's business."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=1)
        await scene.come("r1", "r2", "j1")
        scene.places.drain()
        await settle()
        await scene.come("r3")
        assert (scene.inside, scene.refused) == (["r1"], ["r2", "r3"])

        await scene.leave("r1")
        assert scene.inside == ["j1"]


async def test_a_place_that_came_just_before_the_drain_holds() -> None:
    """Whoever has been let in runs to his end."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=1)
        await scene.come("j1", "r1")
        scene.places.leave("job")
        scene.places.drain()
        await settle()
        assert (scene.inside, scene.refused, scene.places.requests) == (["j1", "r1"], [], 1)


async def test_shut_requests_wait_for_what_comes_of_it() -> None:
    """Though there are places; jobs do not. Reopened, they are let in."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=3)
        scene.places.shut()
        await scene.come("r1", "j1", "r2")
        assert scene.inside == ["j1"]

        scene.places.reopen()
        await settle()
        assert scene.inside == ["j1", "r1", "r2"]


async def test_drained_while_shut_they_are_refused() -> None:
    """When the GPU is closed, nobody is let in behind it."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        scene.places.shut()
        await scene.come("r1")
        scene.places.drain()
        scene.places.reopen()
        await settle()
        assert (scene.inside, scene.refused) == ([], ["r1"])


async def test_room_for_jobs_is_what_requests_leave() -> None:
    """And without requests all there is, none when it is full."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=3)
        assert (scene.places.room(0), scene.places.room(3)) == (3, 0)
        await scene.come("r1")
        assert scene.places.room(0) == 2


async def test_one_job_stands_in_line_while_requests_have_places() -> None:
    """It keeps the place of all that wait in Redis; a second one would only be kept from other workers."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=1)
        await scene.come("r1")
        assert scene.places.room(0) == 1
        await scene.come("j1")
        assert scene.places.room(1) < 1
        await scene.give_up("j1")


async def test_jobs_that_have_all_places_let_one_more_come_once_a_request_waits() -> None:
    """Else requests would get every place that becomes free before a job could ask for it."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, limit=1)
        await scene.come("j1")
        assert scene.places.room(1) < 1
        before = scene.changes
        await scene.come("r1")
        assert scene.places.room(1) == 1
        assert scene.changes > before  # whoever waits for room is told
        await scene.give_up("r1")
