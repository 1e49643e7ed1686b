"""When a growing reply gets its next snapshot."""

from __future__ import annotations

import itertools
import math

import pytest

from worker.pacing import LARGE_BYTES, LARGEST_SHARE, MIN_INTERVAL_SECONDS, SMOOTH_BYTES, Pacing, step


def snapshot_sizes(first: int, final: int, step: int, seconds_per_step: float) -> list[int]:
    """Let a document grow evenly and return the sizes at which snapshots are taken."""
    pacing, sizes, now = Pacing(), [], 0.0
    for size in range(first, final, step):
        now += seconds_per_step
        if pacing.is_due(size) and not pacing.wait(now, streams=1):
            sizes.append(size)
            pacing.uploaded(size, now)
    return sizes


def test_first_snapshot_is_due_at_once() -> None:
    """The first token does not wait for anything, however many replies stream."""
    assert Pacing().is_due(1)
    assert Pacing().wait(0.0, streams=64) == 0


def test_short_replies_are_smooth() -> None:
    """A chat answer of 256 tokens of 4 bytes each is shown in 15 steps, none longer than 42 tokens."""
    sizes = snapshot_sizes(450, 450 + 256 * 4, step=4, seconds_per_step=0.06)
    assert len(sizes) >= 15
    assert max(after - before for before, after in itertools.pairwise(sizes)) <= 168


def test_long_replies_lack_at_most_an_eighth() -> None:
    """Of a chat answer of 2,048 tokens at 20 a second no snapshot is more than 12 s away from the next."""
    sizes = snapshot_sizes(370, 370 + 2_048 * 6, step=6, seconds_per_step=0.05)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert all(grown <= size * LARGEST_SHARE + 6 for size, grown in zip(sizes, steps, strict=False))
    assert max(steps) / 6 * 0.05 <= 12


@pytest.mark.parametrize("first", [220, 450, 5_000])
@pytest.mark.parametrize("grain", [1, 40, 10_000])
def test_snapshots_cost_what_the_module_states(first: int, grain: int) -> None:
    """Both bounds hold for every size, also for a reply that ends with a token that brought one more snapshot."""
    total = 0
    for final in snapshot_sizes(first, 5_000_000, step=grain, seconds_per_step=1.0):
        total += final
        assert total <= 9 * final + SMOOTH_BYTES
        assert total <= 2 * final + LARGE_BYTES * (11 + math.log2(final / LARGE_BYTES))


def test_large_documents_cost_twice_themselves() -> None:
    """From some megabytes on the constants do not show any more."""
    final = 20_000_000
    assert sum(snapshot_sizes(450, final, step=40, seconds_per_step=1.0)) <= 2.05 * final


def test_intervals_grow() -> None:
    """No step is shorter than that of a smaller document, and none jumps where one rule takes over from another."""
    steps = [step(size) for size in range(1, 500_000)]
    assert all(0 <= later - earlier <= 1 + 1e-9 for earlier, later in itertools.pairwise(steps))


def test_fast_tokens_wait_for_the_shortest_interval() -> None:
    """A burst of tokens makes one snapshot, not one each."""
    pacing = Pacing()
    pacing.uploaded(450, now=10.0)
    assert pacing.is_due(10_000)
    assert pacing.wait(10.01, streams=1) == pytest.approx(MIN_INTERVAL_SECONDS - 0.01)


def test_many_replies_share_the_snapshots_of_one() -> None:
    """Sixty-four that stream for a minute, and always have news, get one in `MIN_INTERVAL_SECONDS` all together."""
    streams, seconds, taken, now = 64, 60.0, 0, 0.0
    replies = [Pacing() for _ in range(streams)]
    for pacing in replies:
        pacing.uploaded(450, now)
    while now < seconds:
        now += 0.01
        for pacing in replies:
            if not pacing.wait(now, streams):
                pacing.uploaded(450, now)
                taken += 1
    assert taken <= seconds / MIN_INTERVAL_SECONDS
    assert taken >= 0.9 * seconds / MIN_INTERVAL_SECONDS


def test_a_reply_that_is_left_alone_is_not_held_back_any_more() -> None:
    """What counts is how many stream now, not how many did at the last snapshot."""
    pacing = Pacing()
    pacing.uploaded(450, now=10.0)
    assert pacing.wait(10.1, streams=64) > 3
    assert pacing.wait(10.1, streams=1) == 0


def test_a_document_that_hardly_grew_waits_for_growth() -> None:
    """No time makes a snapshot due, only new text does."""
    pacing = Pacing()
    pacing.uploaded(100_000, now=0.0)
    assert not pacing.is_due(100_001)
