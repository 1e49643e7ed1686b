"""`tlfif login` as a process at an emulated Cognito, and the commands that live on what it stored."""

from __future__ import annotations

import json
import os
import pty
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jose import jwt

from client.exits import ExitCode
from local.aws_server import AwsServer
from tests.client_service import reply
from tests.integration.client_world import PATIENCE_SECONDS, Tlfif, World

REGION = "eu-central-1"
TEMPORARY = "Temporary-Secret-1"
CHOSEN = "Chosen-Secret-2"


@dataclass(frozen=True)
class Pool:
    """A user pool with one app client and the user ann, who still has her temporary password.

    Attributes:
        url: endpoint of the emulated Cognito.
        admin: what an administrator calls it with.
    """

    url: str
    admin: Any
    id: str
    client_id: str

    def environment(self, home: Path) -> dict[str, str]:
        """Return what `tlfif` needs to know, without any token."""
        return {
            "TLFIF_TOKEN": "",
            "TLFIF_USERNAME": "ann",
            "TLFIF_COGNITO_URL": self.url,
            "TLFIF_COGNITO_CLIENT_ID": self.client_id,
            "XDG_CONFIG_HOME": str(home),
        }

    def claims(self, token: str) -> dict[str, Any]:
        """Verify the token against the published keys and return its claims."""
        keys = httpx.get(f"{self.url}/{self.id}/.well-known/jwks.json").json()
        issuer = f"https://cognito-idp.{REGION}.amazonaws.com/{self.id}"
        claims: dict[str, Any] = jwt.decode(token, keys, algorithms=["RS256"], issuer=issuer)
        return claims

    def is_valid(self, token: str) -> bool:
        """Tell what an authorizer would say to an access token."""
        claims = self.claims(token)
        return bool((claims["client_id"], claims["token_use"]) == (self.client_id, "access"))


@pytest.fixture
def pool(aws_server: AwsServer) -> Pool:
    """Return a new pool."""
    admin = aws_server.client("cognito-idp")
    pool_id = admin.create_user_pool(PoolName=f"login-{uuid4()}")["UserPool"]["Id"]
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    created = admin.create_user_pool_client(UserPoolId=pool_id, ClientName="tlfif", ExplicitAuthFlows=flows)
    admin.admin_create_user(UserPoolId=pool_id, Username="ann", TemporaryPassword=TEMPORARY)
    return Pool(aws_server.endpoint, admin, pool_id, created["UserPoolClient"]["ClientId"])


@pytest.fixture
def world(pool: Pool) -> Iterator[World]:
    """Yield a gateway that takes the tokens of the pool, and no others."""
    with World() as world:
        world.is_valid = pool.is_valid
        yield world


@pytest.fixture
def environment(pool: Pool, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user with an empty home."""
    return pool.environment(tmp_path)


@pytest.fixture
def path(world: World, environment: dict[str, str], tmp_path: Path) -> Path:
    """Log ann in for the first time; return the file of her tokens."""
    passwords = f"{TEMPORARY}\n{CHOSEN}\n".encode()
    with Tlfif(world, "login", stdin=passwords, environment=environment) as tlfif:
        code, out, err = tlfif.finish()
    path = tmp_path / "tl-fif" / "tokens.json"
    assert (code, out) == (ExitCode.DONE, "")
    assert err == f"tlfif: ann is logged in at {world.url}; the tokens are in {path}\n"
    return path


def entry(path: Path, world: World) -> dict[str, Any]:
    """Read what is stored for the gateway."""
    stored: dict[str, Any] = json.loads(path.read_text())[world.url]
    return stored


def expire(path: Path, world: World) -> None:
    """Make the stored access token look as if it had 59 seconds left."""
    aged = entry(path, world) | {"expires_at": time.time() + 59}
    path.write_text(json.dumps({world.url: aged}))


def test_a_first_login_sets_a_password_and_stores_real_tokens(pool: Pool, world: World, path: Path) -> None:
    """The access token carries a true RS256 signature, and its expiry is the stored one."""
    stored = entry(path, world)
    claims = pool.claims(stored["access_token"])

    assert (claims["username"], claims["client_id"], claims["token_use"]) == ("ann", pool.client_id, "access")
    assert stored["expires_at"] == pytest.approx(claims["exp"], abs=30)
    assert (stored["cognito_url"], stored["client_id"], stored["username"]) == (pool.url, pool.client_id, "ann")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_infer_and_stop_need_no_token_after_a_login(world: World, environment: dict[str, str], path: Path) -> None:
    """Both find the stored one, and use it as long as it is good."""
    before = path.read_bytes()
    world.put(reply("ab", status="done"))

    with Tlfif(world, "infer", "why?", environment=environment) as tlfif:
        assert tlfif.finish()[:2] == (ExitCode.DONE, "ab\n")
    with Tlfif(world, "stop", environment=environment) as tlfif:
        assert tlfif.finish()[0] == ExitCode.DONE

    assert path.read_bytes() == before


def test_the_chosen_password_is_the_one_that_counts(
    pool: Pool, world: World, environment: dict[str, str], path: Path
) -> None:
    """The next login takes it, prints a token for the variable, and refuses the temporary one."""
    before = path.read_bytes()
    with Tlfif(world, "login", "--print", stdin=f"{CHOSEN}\n".encode(), environment=environment) as tlfif:
        code, out, err = tlfif.finish()
    assert (code, err) == (ExitCode.DONE, "")
    assert pool.is_valid(out.removesuffix("\n"))

    with Tlfif(world, "login", stdin=f"{TEMPORARY}\n".encode(), environment=environment) as tlfif:
        code, out, err = tlfif.finish()
    assert (code, out) == (ExitCode.SERVICE, "")
    assert "check the user name and the password" in err
    assert TEMPORARY not in err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "passwords", "words"),
    [
        (["--username", "bob"], TEMPORARY, "check --username"),
        (["--client-id", "nobody"], TEMPORARY, "check --client-id"),
        ([], f"{TEMPORARY}\nweak", "choose another new password"),
    ],
    ids=["user", "app client", "policy"],
)
def test_a_refused_login_says_what_to_do(
    world: World, environment: dict[str, str], tmp_path: Path, *, arguments: list[str], passwords: str, words: str
) -> None:
    """Exit code 6, one line, nothing stored."""
    with Tlfif(world, "login", *arguments, stdin=passwords.encode(), environment=environment) as tlfif:
        code, out, err = tlfif.finish()

    assert (code, out) == (ExitCode.SERVICE, "")
    assert words in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_old_token_is_refreshed_once_for_all(
    pool: Pool, world: World, environment: dict[str, str], path: Path
) -> None:
    """Of four commands at once, one exchanges the refresh token; all succeed, and the file stays whole."""
    expire(path, world)
    before, used = entry(path, world), set()

    def is_valid(token: str) -> bool:
        used.add(token)
        return pool.is_valid(token)

    world.is_valid = is_valid

    with ExitStack() as stack:
        commands = [stack.enter_context(Tlfif(world, "stop", environment=environment)) for _ in range(4)]
        assert [command.finish()[0] for command in commands] == [ExitCode.DONE] * 4

    after = entry(path, world)
    assert used == {after["access_token"]}
    assert after["access_token"] != before["access_token"]
    assert pool.is_valid(after["access_token"])
    assert after["expires_at"] > before["expires_at"] + 60
    assert after["refresh_token"] == before["refresh_token"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_revoked_login_has_to_be_renewed(pool: Pool, world: World, environment: dict[str, str], path: Path) -> None:
    """Once an administrator signed the user out, the refresh is refused and the service never asked."""
    expire(path, world)
    pool.admin.admin_user_global_sign_out(UserPoolId=pool.id, Username="ann")

    with Tlfif(world, "stop", environment=environment) as tlfif:
        code, out, err = tlfif.finish()

    assert (code, out) == (ExitCode.SERVICE, "")
    assert err.endswith("log in again: tlfif login\n")
    assert not world.stops


def test_a_terminal_shows_no_password(world: World, environment: dict[str, str], tmp_path: Path) -> None:
    """On a real terminal the three prompts appear, and what is typed does not."""
    terminal, stdin = pty.openpty()
    try:
        with Tlfif(world, "login", stdin=stdin, environment=environment) as tlfif:
            assert tlfif.process.stderr is not None
            shown = ""
            for prompt, typed in [("Password of ann: ", TEMPORARY), ("new password: ", CHOSEN), ("more: ", CHOSEN)]:
                shown += read_until(tlfif.process.stderr.fileno(), prompt)
                os.write(terminal, f"{typed}\n".encode())
            code, out, err = tlfif.finish()
        echoed = os.read(terminal, 4096).decode() if select.select([terminal], [], [], 0)[0] else ""
    finally:
        os.close(terminal)
        os.close(stdin)

    assert (code, out) == (ExitCode.DONE, "")
    assert (tmp_path / "tl-fif" / "tokens.json").exists()
    assert not any(secret in shown + err + echoed for secret in (TEMPORARY, CHOSEN))


def test_ctrl_c_ends_a_prompt_at_once(world: World, environment: dict[str, str], tmp_path: Path) -> None:
    """Once is enough, and nothing is stored."""
    terminal, stdin = pty.openpty()
    try:
        with Tlfif(world, "login", stdin=stdin, environment=environment) as tlfif:
            assert tlfif.process.stderr is not None
            read_until(tlfif.process.stderr.fileno(), "Password of ann: ")
            tlfif.interrupt()
            code, out, err = tlfif.finish()
    finally:
        os.close(terminal)
        os.close(stdin)

    assert (code, out, err.strip()) == (ExitCode.INTERRUPTED, "", "tlfif: interrupted")
    assert not list(tmp_path.iterdir())


def read_until(descriptor: int, wanted: str) -> str:
    """Return what comes, up to the wanted end."""
    seen = ""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not seen.endswith(wanted) and time.monotonic() < ends_at:
        if select.select([descriptor], [], [], 0.1)[0]:
            seen += os.read(descriptor, 4096).decode()
    assert seen.endswith(wanted)
    return seen
