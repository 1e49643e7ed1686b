"""`python -m worker`: exit 0 after a clean stop, 2 for bad settings, 70 when the engine died, 1 for a bug.

And 75 when the GPU was idle for long enough, but its instance could not be stopped.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

EXIT_BAD_SETTINGS: Final = 2
EXIT_ENGINE_DIED: Final = 70
EXIT_INSTANCE_RUNS_ON: Final = 75


def main() -> int:
    """Run the worker and return its exit code."""
    gc.disable()  # vLLM's imports make millions of objects that all stay; collecting among them costs seconds
    import anyio  # noqa: PLC0415
    import structlog  # noqa: PLC0415

    from worker.daemon import Daemon  # noqa: PLC0415
    from worker.errors import EngineDied, InstanceRunsOn, SettingsError  # noqa: PLC0415
    from worker.log import configure_logging  # noqa: PLC0415
    from worker.notify import Notifier  # noqa: PLC0415
    from worker.settings import Settings  # noqa: PLC0415

    configure_logging()
    log = structlog.get_logger("worker")
    code = 0
    try:
        anyio.run(Daemon(Settings.from_environment(), Notifier.from_environment(os.environ)).run)
    except* SettingsError as refused:
        problems = [problem for error in refused.exceptions for problem in getattr(error, "problems", [])]
        log.error("bad settings", problems=problems)
        for problem in problems:
            sys.stderr.write(f"worker: {problem}\n")
        code = EXIT_BAD_SETTINGS
    except* EngineDied as died:
        log.error("the engine died", reason=str(died.exceptions[0]))
        code = EXIT_ENGINE_DIED
    except* InstanceRunsOn as refused:
        log.error("the instance runs on", reason=str(refused.exceptions[0]))
        code = EXIT_INSTANCE_RUNS_ON
    return code


if __name__ == "__main__":
    sys.exit(main())
