"""A temporary folder that vanishes with the process that made it, even when that is killed with -9."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ELSEWHERE: Final = "elsewhere"
"""File in the folder: the paths of files outside it, one a line, that are to be removed with it."""

_JANITOR: Final = f"""
read -r _                                     # returns when the pipe's other end is closed, by whatever death
tries=100
while [ -e "$0" ] && [ $tries -gt 0 ]; do     # a child that is just being killed may still write: once more
  [ -e "$0/{ELSEWHERE}" ] && while read -r file; do rm -f -- "$file"; done < "$0/{ELSEWHERE}"
  rm -rf -- "$0" 2>/dev/null || sleep 0.1
  tries=$((tries - 1))
done
"""


class RunDirectory:
    """Makes the folder and a janitor, a small shell that waits for this process to end and then removes it.

    Usable in a `with` block; leaving it removes the folder as well.
    """

    def __init__(self, prefix: str = "tl-fif-") -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        reading, self._writing = os.pipe()
        # Its own session: neither Ctrl-C nor the end of the terminal may reach it before its work is done.
        self._janitor = subprocess.Popen(
            ["/bin/sh", "-c", _JANITOR, str(self.path)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(reading)

    def remove(self) -> None:
        """Let the janitor remove the folder now and wait until it is gone."""
        os.close(self._writing)
        self._janitor.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
