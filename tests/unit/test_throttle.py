"""Keys and headers of the throttle; what its script does is in `tests/contract`."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.throttle import rate_key, retry_after

subs = st.one_of(
    st.text(st.characters()),  # with lone surrogates, which JSON can carry
    st.text("a:%3A@/stop"),
)
routes = st.sampled_from(["infer", "stop"])

Route = Literal["infer", "stop"]


@pytest.mark.parametrize(
    ("sub", "key"),
    [
        ("5f0c2b9e-7f4d-4c1a-9b1e-2f6a3c8d9e0f", "rate:5f0c2b9e-7f4d-4c1a-9b1e-2f6a3c8d9e0f"),
        ("me@example.org", "rate:me@example.org"),
        ("me:stop", "rate:me%3Astop"),
        ("me%3Astop", "rate:me%253Astop"),
        ("a/b c\n", "rate:a%2Fb%20c%0A"),
        ("é", "rate:%C3%A9"),
        ("\ud800", "rate:%ED%A0%80"),
    ],
)
def test_the_key_names_the_user(sub: str, key: str) -> None:
    """As the contract has it for every usual name; what could be mistaken for something else is encoded."""
    assert rate_key(sub) == key


def test_stop_has_an_allowance_of_its_own() -> None:
    """Its key differs from that of the prompts."""
    assert rate_key("me", "stop") == "rate:me:stop"


@given(st.tuples(subs, routes), st.tuples(subs, routes))
def test_no_two_users_or_routes_share_a_key(one: tuple[str, Route], other: tuple[str, Route]) -> None:
    """Whatever they are called."""
    assert (rate_key(*one) == rate_key(*other)) == (one == other)


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.000001, 1), (0.999999, 1), (1.0, 1), (1.000001, 2), (2.999999, 3), (3.0, 3), (0.0, 1)]
)
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: int) -> None:
    """Nobody is sent to come back too early, and nobody at once."""
    assert retry_after(seconds) == header
