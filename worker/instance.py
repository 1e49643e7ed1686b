"""The EC2 instance that a worker runs on, and how it stops itself.

Everything here blocks: the daemon calls it from a thread, and the boot watchdog from a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds between two calls of StopInstances; the halt command follows after the last one."""

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
HALT_SECONDS: Final = 30.0
"""Longest time that the halt command may take."""

log = structlog.get_logger(__name__)


def _client() -> Any:
    """Make the client. Here and not at the top: only a worker that stops needs it."""
    import botocore.session  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 1})
    return botocore.session.get_session().create_client("ec2", config=config)


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance by its `id`, `None` where there is none, and the command that halts it if EC2 cannot be reached."""

    id: str | None
    halt_command: Sequence[str] = ()
    make_client: Callable[[], Any] = _client
    sleep: Callable[[float], None] = time.sleep

    def stop(self) -> bool:
        """Ask EC2 to stop this instance, or else halt it; return whether one of the two was accepted.

        An instance that is halted stops, as its shutdown behaviour is `stop`; either way it costs no more than its
        disk. Where there is neither an instance nor a command there is nothing to stop, which is as good.
        """
        if self.id is None and not self.halt_command:
            log.info("there is no instance to stop: neither instance metadata nor TLFIF_HALT_COMMAND")
            return True
        return (self.id is not None and self._call()) or (bool(self.halt_command) and self._halt())

    def _call(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `_client`

        for pause in (*PAUSES, None):
            try:
                self.make_client().stop_instances(InstanceIds=[self.id])
            except (BotoCoreError, ClientError) as error:
                log.warning("StopInstances failed", instance=self.id, reason=str(error), again_in=pause)
                if pause is not None:
                    self.sleep(pause)
            else:
                log.info("the instance stops", instance=self.id)
                return True
        return False

    def _halt(self) -> bool:
        try:
            # The log is on standard output: what the command says must not break its lines.
            done = subprocess.run(
                self.halt_command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=HALT_SECONDS,
                check=False,
                env=os.environ,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.error("TLFIF_HALT_COMMAND failed", reason=str(error))
            return False
        said = done.stderr.decode("utf-8", "replace")[-500:]
        if done.returncode != 0:
            log.error("TLFIF_HALT_COMMAND failed", code=done.returncode, said=said)
            return False
        log.info("the machine halts")
        return True
