"""Sharing the engine or having it alone: every order in which two of them can come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from worker.turns import Turns


class Scene:
    """Jobs that come when the test says so and go when it says so; `inside` are those whose turn it is."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.turns = Turns()
        self.inside: list[str] = []
        self._tasks = tasks
        self._leave: dict[str, anyio.Event] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}

    async def come(self, name: str) -> None:
        """Let a job come; one in capitals wants to be alone."""
        self._leave[name] = anyio.Event()
        self._scopes[name] = anyio.CancelScope()

        async def job() -> None:
            with self._scopes[name]:
                async with self.turns.alone() if name.isupper() else self.turns.together():
                    self.inside.append(name)
                    try:
                        await self._leave[name].wait()
                    finally:
                        self.inside.remove(name)

        self._tasks.start_soon(job)
        await settle()

    async def leave(self, name: str) -> None:
        """Let a job end."""
        self._leave[name].set()
        await settle()

    async def give_up(self, name: str) -> None:
        """Cancel a job, whether it is inside or waits."""
        self._scopes[name].cancel()
        await settle()


async def settle() -> None:
    """Let everybody move who can."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


def scene(play: Callable[[Scene], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Give a test its scene, and clear it afterwards."""

    async def test() -> None:
        async with anyio.create_task_group() as tasks:
            await play(Scene(tasks))
            tasks.cancel_scope.cancel()

    test.__name__, test.__doc__ = play.__name__, play.__doc__
    return test


@scene
async def test_any_number_share(on: Scene) -> None:
    """Nobody waits for anybody."""
    for name in "abc":
        await on.come(name)
    assert on.inside == ["a", "b", "c"]


@scene
async def test_one_who_wants_to_be_alone_waits_for_those_inside_and_newcomers_for_him(on: Scene) -> None:
    """In the order in which they came."""
    await on.come("a")
    await on.come("X")
    await on.come("b")
    assert (on.inside, on.turns.is_open) == (["a"], False)
    await on.leave("a")
    assert on.inside == ["X"]
    await on.leave("X")
    assert (on.inside, on.turns.is_open) == (["b"], True)


@scene
async def test_two_who_want_to_be_alone_are_alone_one_after_the_other(on: Scene) -> None:
    """And newcomers wait for both."""
    await on.come("X")
    await on.come("Y")
    await on.come("a")
    assert on.inside == ["X"]
    await on.leave("X")
    assert on.inside == ["Y"]
    await on.leave("Y")
    assert on.inside == ["a"]


@pytest.mark.parametrize("waits", [True, False])
async def test_one_who_gives_up_lets_the_others_in(waits: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """Whether he was waiting to be alone or was it already."""
    async with anyio.create_task_group() as tasks:
        on = Scene(tasks)
        if waits:
            await on.come("a")
        await on.come("X")
        await on.come("b")
        await on.give_up("X")
        assert on.inside == (["a", "b"] if waits else ["b"])
        assert on.turns.is_open
        tasks.cancel_scope.cancel()
