"""Where the tokens lie, who may read them, and when they are exchanged."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from client.errors import InvalidSettings, LoginRefused
from client.tokens import REFRESH_BEFORE_SECONDS, Login, TokenFile, Tokens, fresh_token, service_key

URL = "https://gateway.test/prod"
NOW = 1_790_000_000.0


def login(access: str = "access-1", expires_in: float = 3600, username: str = "ann") -> Login:
    """Return a login whose access token lives so many seconds after NOW."""
    return Login(access, "refresh-1", NOW + expires_in, "https://cognito.test", "client1", username)


class Exchange:
    """Exchanges refresh tokens and counts how often."""

    def __init__(self, gives: str = "refresh-1") -> None:
        self.asked: list[Login] = []
        self._gives = gives

    def __call__(self, old: Login) -> Tokens:
        """Give the next tokens, good for an hour."""
        self.asked.append(old)
        return Tokens(f"access-{len(self.asked) + 1}", self._gives, 3600)


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    """Return a file that does not exist yet, nor does its folder."""
    return TokenFile.at_home({"XDG_CONFIG_HOME": str(tmp_path / "config")})


def token(file: TokenFile, exchange: Exchange, url: str = URL) -> str:
    """Ask for a token at NOW."""
    return fresh_token(file, url, lambda: NOW, exchange)


def test_the_file_lies_where_xdg_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable counts if it is absolute, else ~/.config."""
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / ".config" / "tl-fif" / "tokens.json"

    assert TokenFile.at_home({"XDG_CONFIG_HOME": "/etc/me"}).path == Path("/etc/me/tl-fif/tokens.json")
    assert [TokenFile.at_home(env).path for env in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "x"})] == [
        home
    ] * 3


def test_without_a_home_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run users that no password file knows."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)

    with pytest.raises(InvalidSettings, match="set XDG_CONFIG_HOME"):
        TokenFile.at_home({})


def test_what_is_stored_is_read_again(file: TokenFile) -> None:
    """Logins of several services live side by side, and a new one replaces its own alone."""
    file.store("https://a.test", login("a"))
    file.store("https://b.test", login("b"))
    file.store("https://a.test", login("c", username="bob"))

    assert file.read() == {"https://a.test": login("c", username="bob"), "https://b.test": login("b")}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_the_owner_can_read(file: TokenFile, umask: int) -> None:
    """0600 in 0700 whatever the umask, and whatever the folder was before; nothing else is left there."""
    file.path.parent.mkdir(parents=True, mode=0o755)
    before = os.umask(umask)
    try:
        file.store(URL, login())
    finally:
        os.umask(before)

    modes = {path.name: path.stat().st_mode & 0o777 for path in [file.path.parent, *file.path.parent.iterdir()]}
    assert modes == {"tl-fif": 0o700, "tokens.json": 0o600, "lock": 0o600}


def test_a_failed_write_leaves_the_old_file(file: TokenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the new tokens, not the old ones, and what lies half written is no obstacle later."""
    file.store(URL, login("old"))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(InvalidSettings, match="No space left on device"):
            file.store(URL, login("new"))
    assert file.read() == {URL: login("old")}

    file.store(URL, login("new"))
    assert file.read() == {URL: login("new")}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_use_is_refused(file: TokenFile, mode: int) -> None:
    """Neither read nor replaced: who could have read it has to be thought about first."""
    file.store(URL, login())
    file.path.chmod(mode)

    with pytest.raises(InvalidSettings, match=rf"mode {mode:04o}\); run `chmod 600`"):
        file.read()
    with pytest.raises(InvalidSettings, match="chmod"):
        file.store(URL, login())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"https://a.test": 1}',
        b'{"https://a.test": {"access_token": "hush"}}',
    ],
)
def test_a_broken_file_is_refused_without_showing_it(file: TokenFile, content: bytes) -> None:
    """It is neither guessed at nor overwritten; the error names the file and the way out."""
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(content)
    file.path.chmod(0o600)

    for attempt in (file.read, lambda: file.store(URL, login())):
        with pytest.raises(
            InvalidSettings, match=r"tokens\.json does not hold .*delete it and run `tlfif login`"
        ) as caught:
            attempt()
        assert "hush" not in str(caught.value)
    assert file.path.read_bytes() == content


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file where the folder should be, and a folder where the file should be."""
    (tmp_path / "tl-fif").write_text("")
    file = TokenFile.at_home({"XDG_CONFIG_HOME": str(tmp_path)})
    for attempt in (file.read, lambda: file.store(URL, login())):
        with pytest.raises(InvalidSettings, match="set TLFIF_TOKEN instead"):
            attempt()

    (tmp_path / "other" / "tl-fif" / "tokens.json").mkdir(parents=True)
    with pytest.raises(InvalidSettings, match="Is a directory"):
        TokenFile.at_home({"XDG_CONFIG_HOME": str(tmp_path / "other")}).read()


def test_without_a_login_there_is_no_token(file: TokenFile) -> None:
    """Neither a missing file nor other services give one, and asking leaves nothing behind."""
    exchange = Exchange()
    assert not token(file, exchange)
    assert not file.path.parent.exists()

    file.store("https://other.test", login())
    assert not token(file, exchange)
    assert not exchange.asked


def test_a_fresh_token_is_used_as_it_is(file: TokenFile) -> None:
    """A minute is enough for any request to start."""
    file.store(URL, login(expires_in=REFRESH_BEFORE_SECONDS))
    exchange = Exchange()

    assert token(file, exchange) == "access-1"
    assert not exchange.asked


@pytest.mark.parametrize("expires_in", [REFRESH_BEFORE_SECONDS - 0.1, 0, -86_400])
def test_a_token_about_to_expire_is_exchanged_and_stored(file: TokenFile, expires_in: float) -> None:
    """The new tokens replace the old, other services keep theirs, and the next command finds them."""
    file.store(URL, login(expires_in=expires_in))
    file.store("https://other.test", login("other", expires_in=-1))
    exchange = Exchange("refresh-2")

    assert [token(file, exchange), token(file, exchange)] == ["access-2"] * 2

    assert exchange.asked == [login(expires_in=expires_in)]
    renewed = Login("access-2", "refresh-2", NOW + 3600, "https://cognito.test", "client1", "ann")
    assert file.read() == {URL: renewed, "https://other.test": login("other", expires_in=-1)}


def test_a_refused_exchange_changes_nothing(file: TokenFile) -> None:
    """The error goes on, the file stays, and the lock is free again."""
    file.store(URL, login(expires_in=0))

    def refuse(_login: Login) -> Tokens:
        raise LoginRefused("log in again: tlfif login", code="NotAuthorizedException")

    for _ in range(2):
        with pytest.raises(LoginRefused, match="tlfif login"):
            fresh_token(file, URL, lambda: NOW, refuse)
    assert file.read() == {URL: login(expires_in=0)}


def test_whoever_comes_second_takes_what_the_first_got(file: TokenFile) -> None:
    """A refresh token may be good for one exchange, so that the second asks the file again, not Cognito."""
    file.store(URL, login(expires_in=0))
    first_is_asking, first_may_go, second_has_looked = threading.Event(), threading.Event(), threading.Event()
    second = Exchange()
    got: list[str] = []

    def slow(_login: Login) -> Tokens:
        first_is_asking.set()
        assert first_may_go.wait(10)
        return Tokens("access-of-the-first", "refresh-2", 3600)

    def looked() -> float:
        second_has_looked.set()
        return NOW

    threads = [threading.Thread(target=lambda: got.append(fresh_token(file, URL, lambda: NOW, slow)))]
    threads[0].start()
    assert first_is_asking.wait(10)
    with (file.path.parent / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    threads.append(threading.Thread(target=lambda: got.append(fresh_token(file, URL, looked, second))))
    threads[1].start()
    assert second_has_looked.wait(10)
    first_may_go.set()
    for thread in threads:
        thread.join(10)

    assert got == ["access-of-the-first"] * 2
    assert not second.asked


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://gateway.test/prod", "https://gateway.test/prod"),
        ("HTTPS://Gateway.Test:443/prod//", "https://gateway.test/prod"),
        ("https://gateway.test/", "https://gateway.test"),
        ("https://gateway.test:8443", "https://gateway.test:8443"),
        ("http://127.0.0.1:80/", "http://127.0.0.1"),
        ("http://127.0.0.1:443", "http://127.0.0.1:443"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_a_service_has_one_key(url: str, key: str) -> None:
    """Case, default port and last slash do not matter; scheme, other ports and the path do."""
    assert service_key(url) == key


def test_a_path_keeps_its_case() -> None:
    """Stages of an API are told apart by it."""
    assert service_key("https://gateway.test/Prod") != service_key(URL)


def test_any_form_of_the_url_finds_the_token(file: TokenFile) -> None:
    """The lookup normalises as the login does."""
    file.store(service_key(URL), login())

    assert token(file, Exchange(), "https://GATEWAY.test:443/prod/") == "access-1"
    assert not token(file, Exchange(), "https://gateway.test/production")


def test_a_login_never_shows_its_tokens() -> None:
    """It can be logged."""
    assert "access-1" not in repr(login())
    assert "refresh-1" not in repr(login())
