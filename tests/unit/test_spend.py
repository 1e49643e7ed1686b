"""What the cost publisher remembers by its document, and what of it holds."""

from __future__ import annotations

from datetime import date

import pytest

from router_lambda.exchange_rate import Rate
from router_lambda.spend import Memory
from tests.cost_world import NOW


def test_a_clock_that_was_set_back_keeps_nobody_from_asking() -> None:
    """A time to come does not hold."""
    bill = f'{{"usd_by_day": {{}}, "asked_at": {NOW.timestamp() + 60}}}'
    memory = Memory.read(f'{{"bill": {bill}, "bill_tried_at": {NOW.timestamp() + 60}}}'.encode())
    assert memory.bill is not None
    assert memory.is_due(NOW.timestamp(), 24)
    assert not memory.is_due(NOW.timestamp() + 60, 24)


@pytest.mark.parametrize(
    "bill",
    [
        *("5", "{}", '{"usd_by_day": {}}', '{"usd_by_day": [], "asked_at": 1}', '{"usd_by_day": {}, "asked_at": "1"}'),
        *('{"usd_by_day": {"x": 1}, "asked_at": 1}', '{"usd_by_day": {"2026-11-01": "1"}, "asked_at": 1}'),
        *('{"usd_by_day": {"2026-11-01": NaN}, "asked_at": 1}', '{"usd_by_day": {}, "asked_at": 1e300}'),
        '{"usd_by_day": {"2026-11-01": 1%s}, "asked_at": 1}' % ("0" * 400),
    ],
)
def test_a_bill_of_another_form_is_none(bill: str) -> None:
    """The rest of the document still holds."""
    rate = '{"eur_per_usd": 0.88, "day": "2026-11-25", "asked_at": 1.5}'
    memory = Memory.read(f'{{"bill": {bill}, "rate": {rate}, "bill_tried_at": 7}}'.encode())
    assert memory == Memory(None, 7.0, Rate(0.88, date(2026, 11, 25), 1.5))


@pytest.mark.parametrize("said", ['"0.88"', "0", "-0.88", "88", "true", "null"])
def test_a_rate_of_another_form_is_none(said: str) -> None:
    """An absurd one is no better."""
    rate = f'{{"eur_per_usd": {said}, "day": "2026-11-25", "asked_at": 1.5}}'
    assert Memory.read(f'{{"rate": {rate}}}'.encode()) == Memory()
