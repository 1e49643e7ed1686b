"""What `tlfif infer` shows of a GPU that wakes, until the reply begins.

`Display` decides what to show. `Waking` asks the service and writes, in tasks of its own beside the reply, which it can
neither hold up nor end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from client.errors import Busy, ClientError, NotAuthorized, NotFound
from client.gpu import Status
from client.live_line import LiveLine
from client.pacing import status_again
from client.quoting import quote

if TYPE_CHECKING:  # as in client.infer
    from client.answers import Submission
    from client.session import Client

_TICK_SECONDS: Final = 1.0


class Display:
    """Decides what a reader sees, from what the service says; `elapsed` is in seconds since the POST.

    On a terminal the time passes in a line that is rewritten; elsewhere each change of state or phase is a line.
    """

    def __init__(self, *, on_terminal: bool) -> None:
        self._on_terminal = on_terminal
        self._status: Status | None = None
        self._heard_at = 0.0
        self._problem: str | None = None

    def heard(self, status: Status, elapsed: float) -> list[str]:
        """Take what the service says and return the new lines that stay."""
        before, self._status, self._heard_at = self._status, status, elapsed
        lines = []
        if not self._on_terminal and (before is None or (status.state, status.phase) != (before.state, before.phase)):
            lines.append(self._progress(status, elapsed))
        if status.problem and status.problem != self._problem:
            self._problem = status.problem
            lines.append(f"tlfif: {quote(status.problem)}")
        return lines

    def line(self, elapsed: float) -> str | None:
        """Return what the rewritten line says now; `None` where there is none, or nothing to say yet."""
        return self._progress(self._status, elapsed) if self._status and self._on_terminal else None

    def _progress(self, status: Status, elapsed: float) -> str:
        said = [status.activity or f"the GPU is {quote(status.state)}", f"{elapsed:.0f} s so far"]
        if status.eta_seconds is not None:
            left = round(status.eta_seconds - (elapsed - self._heard_at))
            if left > 0:
                said.append(f"about {left} s to go")
        return f"tlfif: {', '.join(said)}"


class Waking:
    """Shows on `err` what the GPU does, from the beginning of an `async with` block until `end` or that of the block.

    Shows nothing for a job that a worker is there for. No failure gets out: who waits for a reply has lost nothing.
    """

    def __init__(self, client: Client, submission: Submission, err: TextIO) -> None:
        self._client = client
        self._submission = submission
        self._err = err
        self._line = LiveLine(err) if err.isatty() else None
        self._display = Display(on_terminal=self._line is not None)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._submission.status == "starting":
            self._tasks.append(asyncio.create_task(self._listen(), name="status of the GPU"))
            if self._line:
                self._tasks.append(asyncio.create_task(self._tick(), name="passing seconds"))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def end(self) -> None:
        """Take the line away at once; nothing is shown from now on."""
        for task in self._tasks:
            task.cancel()
        if self._line:
            with suppress(OSError):  # a terminal that is gone must not keep the reply from a file
                self._line.clear()

    async def _listen(self) -> None:
        while True:
            busy = None
            try:
                status = await self._client.status()
            except (NotAuthorized, NotFound):  # a service without this route; no repeat would change that
                return
            except Busy as error:
                busy = error
            except ClientError:
                pass
            else:
                self._show(status)
            await self._client.sleep(status_again(busy))

    async def _tick(self) -> None:
        while True:
            await self._client.sleep(_TICK_SECONDS)
            self._rewrite()

    def _show(self, status: Status) -> None:
        for text in self._display.heard(status, self._elapsed()):
            if self._line:
                self._line.clear()
            print(text, file=self._err, flush=True)
        self._rewrite()

    def _rewrite(self) -> None:
        if self._line and (text := self._display.line(self._elapsed())):
            self._line.show(text)

    def _elapsed(self) -> float:
        return self._client.clock() - self._submission.posted_at
