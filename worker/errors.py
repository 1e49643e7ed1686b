"""Everything that can go wrong in the worker, in one tree.

WorkerError
├── SettingsError        the environment is wrong: exit 2
├── EngineDied           vLLM is gone: jobs go back, exit 70
├── InstanceRunsOn       the idle instance could not be stopped: exit 75, to be started again
├── JobRejected          this job can never run on this model: its reply says why
├── QueueUnavailable     Redis does not answer: back off and go on
├── StoreUnavailable     S3 does not answer: back off and go on
├── ReplyConflict        somebody else wrote the reply: this worker no longer owns the job
└── LeaseLost            somebody else runs the job by now: stop, write nothing, leave its keys alone
"""

from __future__ import annotations


class WorkerError(Exception):
    """The root."""


class SettingsError(WorkerError):
    """The environment is wrong. `problems` names every variable at once and says what to do."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class EngineDied(WorkerError):
    """The engine ended or aborted requests that nobody had cancelled; only a new process helps."""


class InstanceRunsOn(WorkerError):
    """Neither StopInstances nor the halt command was accepted; as it costs all the same, it had better serve."""


class JobRejected(WorkerError):
    """The engine will never take this job. `code` and the message go into the reply, the code alone into the log."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class QueueUnavailable(WorkerError):
    """Redis cannot be reached, is loading or read-only. Temporary: try again with a back-off."""


class StoreUnavailable(WorkerError):
    """S3 cannot be reached or refuses for now. Temporary: try again with a back-off."""


class ReplyConflict(WorkerError):
    """The reply object changed under this worker, which therefore must not write it any more."""


class LeaseLost(WorkerError):
    """Another worker has taken the job while this one stood still; whatever this one has of it is worth nothing."""
