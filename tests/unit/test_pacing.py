"""When a growing reply gets its next snapshot."""

from __future__ import annotations

import itertools
import math

import pytest

from worker.pacing import MIN_INTERVAL_SECONDS, SMOOTH_BYTES, Pacing


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


@pytest.mark.parametrize("final", [2_000, 20_000, 200_000, 2_000_000, 20_000_000])
def test_snapshots_cost_at_most_twice_the_final_document_and_a_constant(final: int) -> None:
    """The bound that the module states holds for every size."""
    total = sum(snapshot_sizes(450, final, step=4, seconds_per_step=1.0))
    assert total <= 2 * final + SMOOTH_BYTES * math.log(final / 450)


def test_large_documents_cost_twice_themselves() -> None:
    """From a megabyte on the constant does not show any more."""
    final = 20_000_000
    assert sum(snapshot_sizes(450, final, step=40, seconds_per_step=1.0)) <= 2.05 * final


def test_intervals_grow() -> None:
    """Each step is longer than the one before, up to the grain of the tokens."""
    sizes = snapshot_sizes(450, 500_000, step=4, seconds_per_step=1.0)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert all(later >= earlier - 4 for earlier, later in itertools.pairwise(steps))


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
