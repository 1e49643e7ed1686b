"""What the exit code of `tlfif` says."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from client.errors import BadRequest, ClientError, DeadlinePassed, InvalidSettings


class ExitCode(IntEnum):
    """Part of the command line's interface: a code never changes its meaning."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    EXPIRED = 3
    CANCELLED = 4
    DEADLINE = 5
    SERVICE = 6
    INTERRUPTED = 130  # 128 + SIGINT, as a shell has it
    PIPE_CLOSED = 141  # 128 + SIGPIPE


HELP: Final = """exit codes:
  0    done
  1    the job failed
  2    usage: bad options, settings, input or token file, or a request that the service does not accept (400)
  3    the job expired in the queue
  4    the job was cancelled
  5    the deadline passed; the job may still run
  6    service or Cognito cannot be reached, refuse (401-404, 429, 503, a login, an expired link) or make no sense
  130  interrupted by Ctrl-C; a job that was accepted runs on
  141  whatever read the output went away
"""

_BY_STATUS: Final = {
    "done": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "expired": ExitCode.EXPIRED,
    "cancelled": ExitCode.CANCELLED,
}


def for_status(status: str) -> ExitCode:
    """Return the code of a job that ended with this final status."""
    return _BY_STATUS[status]


def for_error(error: ClientError) -> ExitCode:
    """Return the code of a command that ended with this error."""
    if isinstance(error, InvalidSettings | BadRequest):
        return ExitCode.USAGE
    if isinstance(error, DeadlinePassed):
        return ExitCode.DEADLINE
    return ExitCode.SERVICE
