"""What is known of the worker's neighbours, and what of it is logged."""

from __future__ import annotations

from structlog.testing import capture_logs

from worker.health import Health


def test_each_change_is_logged_once() -> None:
    """An outage of many failures makes two lines: when it begins, with the reason, and when it is over."""
    health = Health()
    with capture_logs() as logs:
        health.ok("redis")
        for _ in range(3):
            health.failed("redis", ConnectionError("refused by the test"))
        assert health.components == {"redis": "refused by the test", "s3": "ok"}
        health.ok("redis")
        health.ok("redis")
    assert [(line["log_level"], line["component"], line.get("reason")) for line in logs] == [
        ("warning", "redis", "refused by the test"),
        ("info", "redis", None),
    ]
    assert health.components == {"redis": "ok", "s3": "ok"}
