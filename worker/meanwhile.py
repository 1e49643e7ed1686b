"""Something that is made in a thread while this one waits for something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Meanwhile(Generic[T]):
    """Calls a function once: in a thread, if it is started before somebody asks for what it returns."""

    def __init__(self, make: Callable[[], T], name: str) -> None:
        self._future: Future[T] = Future()
        self._make = make
        # A daemon: a process that ends because of what it waited for shall not wait for this.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin now; not before the last fork, since a child would inherit the locks that the thread holds."""
        self._thread.start()

    def result(self) -> T:
        """Wait for the thread, and return or raise what the function did."""
        if self._thread.ident is None and not self._future.done():
            self._run()
        return self._future.result()

    def _run(self) -> None:
        try:
            self._future.set_result(self._make())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is wanted
            self._future.set_exception(error)
