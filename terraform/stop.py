"""What SIGTERM and SIGINT mean to a deployment: it ends between two steps, and puts back what it moved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

from terraform.aliases import DeployError

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopped(DeployError):
    """Somebody asked the deployment to end."""


class Stop:
    """Whether somebody has asked. The first signal asks, the second one kills."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def listen(self) -> None:
        """Take the signals from now on."""
        for each in _SIGNALS:
            signal.signal(each, self.ask)

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Ask; the handler of both signals."""
        self._asked.set()
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def check(self) -> None:
        """Go on, unless somebody has asked.

        Raises:
            Stopped: somebody has.
        """
        self.pause(0)

    def pause(self, seconds: float) -> None:
        """Wait; a signal ends it.

        Raises:
            Stopped: somebody has asked.
        """
        if self._asked.wait(seconds):
            raise Stopped("it was told to stop by a signal")
