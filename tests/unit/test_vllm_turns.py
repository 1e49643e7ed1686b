"""vLLM's output handler shares the event loop, though there is always something more for it to read."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from worker.vllm_engine import _let_others_in


class Busy:
    """An engine core whose outputs are always there already, as when reading them takes longer than making them."""

    def __init__(self) -> None:
        self.read = 0

    async def get_output_async(self) -> int:
        """Return the next one without ever waiting."""
        self.read += 1
        return self.read


async def test_everybody_gets_a_turn_between_two_outputs() -> None:
    """Otherwise leases and snapshots would wait until a whole request is read."""
    core, turns = Busy(), []
    _let_others_in(core)

    async def somebody_else() -> None:
        while True:
            turns.append(core.read)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(somebody_else)
        for number in range(1, 101):
            assert await core.get_output_async() == number
        tasks.cancel_scope.cancel()
    assert set(range(1, 100)) <= set(turns)
