"""Whether the worker's neighbours answer; each change is logged once, not each failure."""

from __future__ import annotations

import structlog

from worker import metrics

log = structlog.get_logger(__name__)


class Health:
    """What is known of Redis and S3: `ok`, or the reason why not."""

    def __init__(self) -> None:
        self.components = {"redis": "ok", "s3": "ok"}
        for component in self.components:
            metrics.COMPONENT_UP.labels(component).set(1)

    @property
    def reasons(self) -> list[str]:
        """Why the worker cannot do all of its work now, a sentence a component; empty when it can."""
        return [f"{name} does not answer: {why}" for name, why in self.components.items() if why != "ok"]

    def ok(self, component: str) -> None:
        """Note that the component answered."""
        if self.components[component] == "ok":  # several times a job
            return
        log.info("component answers again", component=component)
        self.components[component] = "ok"
        metrics.COMPONENT_UP.labels(component).set(1)

    def failed(self, component: str, reason: Exception) -> None:
        """Note that the component did not answer."""
        if self.components[component] == "ok":
            log.warning("component does not answer", component=component, reason=str(reason))
        self.components[component] = str(reason)
        metrics.COMPONENT_UP.labels(component).set(0)
