"""What the client refuses before it sends anything, and the body that it sends."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from client.errors import InvalidSettings
from client.request import encode_body, json_schema_format, text_messages
from client.session import Client
from client.settings import Settings
from router_lambda.job import parse_request
from tests.client_service import TOKEN, URL


@pytest.mark.parametrize(
    "url", [URL, "https://host:8443/", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:9/x"]
)
def test_good_urls_are_taken(url: str) -> None:
    """HTTPS goes anywhere, HTTP to this machine, and the route follows the base path."""
    assert Settings(url, TOKEN).endpoint("/infer") == url.rstrip("/") + "/infer"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "missing"),
        ("gateway.test", "must be https"),
        ("ftp://gateway.test", "must be https"),
        ("https://", "must be https"),
        ("https://me:word@gateway.test", "must be https"),
        ("https://gateway.test?a=b", "must be https"),
        ("http://gateway.test", "in the clear"),
        ("https://host:port", "cannot be parsed"),
        ("https://[::1", "cannot be parsed"),
    ],
)
def test_bad_urls_are_refused_with_advice(url: str, message: str) -> None:
    """Each kind of bad URL says what to give instead."""
    with pytest.raises(InvalidSettings, match=message):
        Settings(url, TOKEN)


@pytest.mark.parametrize("url", ["https://host\n/", "https://999.1.1.1", "https://xn--zz-"])
def test_a_url_that_only_httpx_refuses_is_refused_as_well(url: str) -> None:
    """What the transport cannot use ends in the same error as the rest."""
    with pytest.raises(InvalidSettings, match="URL cannot be used"):
        Client(url, TOKEN)


@pytest.mark.parametrize("token", ["two words", "sesame\n", "täglich", "\x00"])
def test_a_bad_token_is_refused_without_showing_it(token: str) -> None:
    """The message never repeats the token."""
    with pytest.raises(InvalidSettings) as caught:
        Settings(URL, token)

    assert token.strip() not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_deadline_is_a_positive_span(seconds: float) -> None:
    """Waiting for ever or for no time at all is refused."""
    with pytest.raises(InvalidSettings, match="deadline"):
        Settings(URL, TOKEN, seconds)


def test_everything_wrong_is_reported_at_once() -> None:
    """Three mistakes make one error that names the three."""
    with pytest.raises(InvalidSettings) as caught:
        Settings("", "", 0)

    assert len(caught.value.problems) == 3


def no_token(_url: str) -> str:
    """Stand for a user who never logged in."""
    return ""


def must_not_be_asked(_url: str) -> str:
    """Stand for stored tokens that nobody needs."""
    raise AssertionError("the stored token was asked for")


def test_options_win_over_the_environment() -> None:
    """`--url` and `--token` come before the variables, which come before what is stored."""
    environment = {"TLFIF_URL": "https://env.test", "TLFIF_TOKEN": "env"}

    assert Settings.read(None, None, 5, environment, must_not_be_asked) == Settings("https://env.test", "env", 5)
    assert Settings.read(URL, TOKEN, 5, environment, must_not_be_asked) == Settings(URL, TOKEN, 5)


@pytest.mark.parametrize("environment", [{}, {"TLFIF_TOKEN": ""}])
def test_a_stored_token_is_taken_where_none_is_given(environment: dict[str, str]) -> None:
    """An unset and an empty variable mean the same, and the URL says which token."""
    settings = Settings.read(URL, None, 5, environment, lambda url: f"stored-for-{url}")

    assert settings.token == f"stored-for-{URL}"


def test_an_empty_option_is_not_filled_in() -> None:
    """`--token ""` is a mistake of the caller's script, which a stored token would hide."""
    with pytest.raises(InvalidSettings, match="token is missing"):
        Settings.read(URL, "", 5, {}, must_not_be_asked)


def test_a_bad_url_has_no_stored_token() -> None:
    """What cannot be a service is not looked up, and both problems are reported."""
    with pytest.raises(InvalidSettings) as caught:
        Settings.read("ftp://x", None, 5, {}, must_not_be_asked)

    assert len(caught.value.problems) == 2


def test_without_any_token_the_error_names_both_ways() -> None:
    """Logging in and giving a token are both on offer."""
    with pytest.raises(InvalidSettings, match=r"`tlfif login`, or set TLFIF_TOKEN or give --token"):
        Settings.read(URL, None, 5, {}, no_token)


def test_settings_never_show_the_token() -> None:
    """Neither the settings nor the client print the token."""
    assert TOKEN not in repr(Settings(URL, TOKEN))
    assert TOKEN not in repr(vars(Client(URL, TOKEN)))


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Grüße 👋"},
        {"prompt": "a", "raw": True, "idle_minutes": 3, "params": {"n": 2, "stop": ["\n"]}},
        {"messages": text_messages("be brief", "why?")},
        {"prompt": "a", "params": {"response_format": json_schema_format({"type": "object"})}},
    ],
)
def test_the_body_is_one_that_the_router_takes(fields: dict[str, Any]) -> None:
    """What the client writes passes the router's own check, field by field."""
    body = encode_body(**fields)

    assert json.loads(body) == fields
    parse_request(body)


def test_fields_left_out_are_left_to_the_service() -> None:
    """The client adds no defaults of its own."""
    assert encode_body(prompt="a", params={}) == b'{"prompt": "a"}'


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "hush \udcff"}, "not valid Unicode"),
        ({"prompt": "hush", "params": {"temperature": math.nan}}, "finite"),
    ],
)
def test_what_json_cannot_carry_is_refused_without_showing_it(fields: dict[str, Any], message: str) -> None:
    """A lone surrogate and NaN end in a clear error that keeps the prompt to itself."""
    with pytest.raises(InvalidSettings, match=message) as caught:
        encode_body(**fields)

    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
