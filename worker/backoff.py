"""Waiting times after failures."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator


def delays(first: float, longest: float, jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """Yield seconds to wait before each further try: doubling up to `longest`, each scaled by 0.5 to 1.

    The jitter keeps workers that lost the same server from coming back in step (AWS Architecture Blog,
    "Exponential Backoff And Jitter").
    """
    ceiling = first
    while True:
        yield ceiling * (0.5 + jitter() / 2)
        ceiling = min(longest, ceiling * 2)
