"""The protocol of Cognito: what is posted, and what each answer means."""

from __future__ import annotations

import httpx
import pytest

from client.cognito import Cognito, NewPasswordRequired
from client.errors import InvalidSettings, LoginRefused, NotConnected, UnexpectedAnswer, Unreachable
from client.tokens import Tokens
from tests.client_cognito import (
    CLIENT_ID,
    COGNITO_URL,
    NEW_PASSWORD,
    PASSWORD,
    ScriptedCognito,
    challenge,
    refused,
    tokens,
)

REQUIRED = NewPasswordRequired("session-1", "ann")


async def sign_in(script: ScriptedCognito, url: str = COGNITO_URL) -> Tokens | NewPasswordRequired:
    """Sign in as ann."""
    async with Cognito(url, CLIENT_ID, transport=script) as cognito:
        return await cognito.sign_in("ann", PASSWORD)


async def set_password(script: ScriptedCognito) -> Tokens:
    """Answer the demand for a new password."""
    async with Cognito(COGNITO_URL, CLIENT_ID, transport=script) as cognito:
        return await cognito.set_password(REQUIRED, NEW_PASSWORD)


async def refresh(script: ScriptedCognito) -> Tokens:
    """Exchange a refresh token."""
    async with Cognito(COGNITO_URL, CLIENT_ID, transport=script) as cognito:
        return await cognito.refresh("refresh-0")


@pytest.mark.parametrize("url", [COGNITO_URL, COGNITO_URL + "/"])
async def test_signing_in_is_one_unsigned_post(url: str) -> None:
    """The address, the headers and the body that the API reference asks for."""
    script = ScriptedCognito(tokens())

    assert await sign_in(script, url) == Tokens("access-1", "refresh-1", 3600)

    request = script.requests[0]
    assert (request.method, str(request.url)) == ("POST", COGNITO_URL + "/")
    assert request.headers["content-type"] == "application/x-amz-json-1.1"
    assert request.headers["x-amz-target"] == "AWSCognitoIdentityProviderService.InitiateAuth"
    assert "authorization" not in request.headers
    assert script.calls[0][1] == {
        "AuthFlow": "USER_PASSWORD_AUTH",
        "ClientId": CLIENT_ID,
        "AuthParameters": {"USERNAME": "ann", "PASSWORD": PASSWORD},
    }


@pytest.mark.parametrize(
    ("parameters", "username"),
    [
        ({}, "ann"),
        ({"USERNAME": "the-user"}, "the-user"),
        ({"USERNAME": "the-user", "USER_ID_FOR_SRP": "the-id", "requiredAttributes": "[]"}, "the-id"),
    ],
)
async def test_a_new_password_is_demanded_from_the_name_in_the_pool(parameters: dict[str, str], username: str) -> None:
    """Who signs in by an alias answers under the name that Cognito uses."""
    assert await sign_in(ScriptedCognito(challenge(**parameters))) == NewPasswordRequired("session-1", username)


async def test_a_new_password_answers_the_challenge() -> None:
    """The session goes back with the password, and tokens come."""
    script = ScriptedCognito(tokens())

    assert (await set_password(script)).access_token == "access-1"
    assert script.calls == [
        (
            "RespondToAuthChallenge",
            {
                "ChallengeName": "NEW_PASSWORD_REQUIRED",
                "ClientId": CLIENT_ID,
                "Session": "session-1",
                "ChallengeResponses": {"USERNAME": "ann", "NEW_PASSWORD": NEW_PASSWORD},
            },
        )
    ]


async def test_attributes_that_nobody_set_are_not_guessed() -> None:
    """A pool that wants more than a password says what, and the user has to ask for it."""
    script = ScriptedCognito(challenge(requiredAttributes='["userAttributes.email"]'))
    with pytest.raises(LoginRefused, match=r"userAttributes\.email.*ask whoever runs the user pool"):
        await sign_in(script)


@pytest.mark.parametrize(("given", "kept"), [(None, "refresh-0"), ("refresh-9", "refresh-9")])
async def test_a_refresh_keeps_the_newest_refresh_token(given: str | None, kept: str) -> None:
    """Cognito leaves it out where the old one stays good; one that it sends replaces the old."""
    script = ScriptedCognito(tokens("access-2", given, 300))

    assert await refresh(script) == Tokens("access-2", kept, 300)
    assert script.calls == [
        (
            "InitiateAuth",
            {
                "AuthFlow": "REFRESH_TOKEN_AUTH",
                "ClientId": CLIENT_ID,
                "AuthParameters": {"REFRESH_TOKEN": "refresh-0"},
            },
        )
    ]


@pytest.mark.parametrize("name", ["SOFTWARE_TOKEN_MFA", "SMS_MFA", "MFA_SETUP", "CUSTOM_CHALLENGE"])
@pytest.mark.parametrize("step", [sign_in, set_password, refresh])
async def test_any_other_challenge_is_named(step: object, name: str) -> None:
    """What the client cannot answer ends the login, at whatever step it comes."""
    assert callable(step)
    with pytest.raises(LoginRefused, match=rf"asks for {name}, which tlfif cannot answer") as caught:
        await step(ScriptedCognito(challenge(name)))

    assert caught.value.code == name


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("NotAuthorizedException", "check the user name and the password"),
        ("UserNotFoundException", "check --username"),
        ("UserNotConfirmedException", "confirm the account first"),
        ("PasswordResetRequiredException", "has to be reset first"),
        ("TooManyRequestsException", "try again in a minute"),
        ("LimitExceededException", "try again in a minute"),
        ("InternalErrorException", "try again in a minute"),
        ("ResourceNotFoundException", "check --client-id"),
        ("InvalidParameterException", "allows USER_PASSWORD_AUTH"),
        ("com.amazonaws.cognito#UserNotFoundException", "check --username"),
        ("SomethingNewException", "ask whoever runs the user pool"),
    ],
)
async def test_each_error_of_a_sign_in_says_what_to_do(code: str, advice: str) -> None:
    """Cognito's name for it and its words are there as well."""
    with pytest.raises(LoginRefused, match=advice) as caught:
        await sign_in(ScriptedCognito(refused(code, "its words")))

    assert caught.value.code == code.rpartition("#")[2]
    assert f"({caught.value.code}: its words)" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("NotAuthorizedException", "within three minutes"),
        ("InvalidPasswordException", "choose another new password"),
        ("InvalidParameterException", "choose another new password"),
        ("TooManyRequestsException", "try again in a minute"),
    ],
)
async def test_each_error_of_a_new_password_says_what_to_do(code: str, advice: str) -> None:
    """The same codes mean something else at the second step."""
    with pytest.raises(LoginRefused, match=advice):
        await set_password(ScriptedCognito(refused(code)))


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("NotAuthorizedException", "log in again: tlfif login"),
        ("UserNotFoundException", "log in again: tlfif login"),
        ("InvalidParameterException", "log in again: tlfif login"),
        ("TooManyRequestsException", "try again in a minute"),
    ],
)
async def test_a_refused_refresh_asks_for_a_new_login(code: str, advice: str) -> None:
    """Unless Cognito is only busy."""
    with pytest.raises(LoginRefused, match=advice):
        await refresh(ScriptedCognito(refused(code)))


@pytest.mark.parametrize(
    "words", ["Unable to verify secret hash for client", "is configured with secret but SECRET_HASH was not received"]
)
async def test_an_app_client_with_a_secret_is_recognised(words: str) -> None:
    """A command line can keep no client secret, whatever code Cognito uses for that."""
    with pytest.raises(LoginRefused, match="app client without a secret"):
        await sign_in(ScriptedCognito(refused("NotAuthorizedException", words)))


async def test_what_cognito_quotes_stays_secret() -> None:
    """An error that repeats a password, a session or a token reaches nobody with it."""
    quoting = f"bad: {PASSWORD} {NEW_PASSWORD} session-1 refresh-0"
    messages = []
    for step in (sign_in, set_password, refresh):
        with pytest.raises(LoginRefused) as caught:
            await step(ScriptedCognito(refused("NotAuthorizedException", quoting)))
        messages.append(str(caught.value))

    assert PASSWORD not in messages[0]
    assert NEW_PASSWORD not in messages[1]
    assert "session-1" not in messages[1]
    assert "refresh-0" not in messages[2]


async def test_words_of_cognito_fit_on_one_line_of_a_terminal() -> None:
    """Control characters of whatever stands at that address go no further."""
    with pytest.raises(LoginRefused) as caught:
        await sign_in(ScriptedCognito(refused("Odd\x1bException", "\x1b]0;owned\x07\n" + "x" * 500)))

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, content=b"<h1>Not found</h1>"),
        httpx.Response(503, json={"message": "no type"}),
        httpx.Response(301, headers={"Location": "https://elsewhere.test/"}),
    ],
    ids=["page", "JSON", "redirect"],
)
async def test_what_is_no_cognito_is_named(answer: httpx.Response) -> None:
    """The host, the status and the option to check; a redirect is not followed with a password in hand."""
    script = ScriptedCognito(answer)
    with pytest.raises(UnexpectedAnswer, match=rf"cognito\.test answered {answer.status_code}.*check --cognito-url"):
        await sign_in(script)

    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"AuthenticationResult": {"AccessToken": "a", "ExpiresIn": 1}},
        {"AuthenticationResult": {"AccessToken": "a", "RefreshToken": "r", "ExpiresIn": "1"}},
        {"AuthenticationResult": {"RefreshToken": "r", "ExpiresIn": 1}},
    ],
)
async def test_an_answer_without_all_tokens_is_an_error(body: dict[str, object]) -> None:
    """Half a login is none."""
    with pytest.raises(UnexpectedAnswer, match="Cognito's answer"):
        await sign_in(ScriptedCognito(httpx.Response(200, json=body)))


async def test_without_a_connection_the_option_to_check_is_named() -> None:
    """The address came by --cognito-url, not by --url."""
    with pytest.raises(NotConnected, match=r"cannot connect to cognito\.test: refused; check --cognito-url"):
        await sign_in(ScriptedCognito(httpx.ConnectError("refused")))
    with pytest.raises(Unreachable, match="no whole answer"):
        await sign_in(ScriptedCognito(httpx.ReadTimeout("slow")))


def test_a_url_that_only_httpx_refuses_is_refused() -> None:
    """What the transport cannot use ends in the same error as the rest."""
    with pytest.raises(InvalidSettings, match="Cognito's URL cannot be used"):
        Cognito("https://xn--zz-", CLIENT_ID)


def test_nothing_secret_is_shown() -> None:
    """What passes between the steps can be logged."""
    shown = repr(REQUIRED) + repr(Tokens("access-1", "refresh-1", 1))

    assert not [secret for secret in ("session-1", "access-1", "refresh-1") if secret in shown]
