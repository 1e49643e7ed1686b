"""JSON lines on standard output, one event a line: ours, vLLM's and every other library's."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import Any, Final, TextIO

import structlog

NAMESPACE: Final = "TLFIF/Worker"
"""CloudWatch namespace of the metrics that are counted in the log."""


def configure_logging() -> None:
    """Send every log record of this process, and of the processes it forks, to standard output as JSON.

    The handler writes to a stream of its own on file descriptor 1, so that whatever wraps `sys.stdout` later
    cannot put text in front of the JSON.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    stream = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    renderer = structlog.processors.JSONRenderer(serializer=_serialize)
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=lambda *names: _Lines(names[0] if names else "root", stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("botocore", "aiobotocore", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Logs exceptions whose messages may quote a prompt; worker.openai_api says what came of each request.
    logging.getLogger("vllm.entrypoints").setLevel(logging.CRITICAL)
    # Warns of each tensor that it casts, which is what the dtype was chosen for.
    logging.getLogger("vllm.model_executor.models.utils").setLevel(logging.ERROR)


_encoder: Final = json.JSONEncoder(default=repr)
"""Made once, as that takes longer than writing a line."""


def _serialize(event: Any, **_options: Any) -> str:
    return _encoder.encode(event)


class _Lines:
    """Writes this program's own lines; those of libraries come by way of the logging module, which takes longer."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk, or a reader that has gone, must not fail a job
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


def count(metric: str, **fields: Any) -> None:
    """Add 1 to a CloudWatch metric by embedded metric format; `fields` go into the same line.

    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    directive = {"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": [{"Name": metric, "Unit": "Count"}]}
    meta = {"Timestamp": round(time.time() * 1e3), "CloudWatchMetrics": [directive]}
    structlog.get_logger(__name__).info(metric, _aws=meta, **{metric: 1}, **fields)
