"""The tokens of `tlfif login`: one file for all services, which only its owner can read.

The file is a JSON object: normalised URL of a service → the members of `Login`. It is replaced as a whole, under a
lock that is held from reading to writing, so that no process loses what another one stores.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from client.errors import InvalidSettings, UnexpectedAnswer
from client.fields import Fields

REFRESH_BEFORE_SECONDS: Final = 60.0
"""An access token that expires sooner is exchanged before it is used."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class Tokens:
    """What Cognito gives: an access token, how many seconds it lives, and what to exchange for the next one."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    lifetime_seconds: float


@dataclass(frozen=True, slots=True)
class Login:
    """One user's tokens for one service, and where they can be refreshed. `expires_at` is in Unix seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    cognito_url: str
    client_id: str
    username: str

    @classmethod
    def read(cls, entry: Fields) -> Login:
        """Read what `asdict` wrote."""
        return cls(
            access_token=entry.text("access_token"),
            refresh_token=entry.text("refresh_token"),
            expires_at=entry.number("expires_at"),
            cognito_url=entry.text("cognito_url"),
            client_id=entry.text("client_id"),
            username=entry.text("username"),
        )

    def is_fresh(self, now: float) -> bool:
        """Tell whether the access token can still be used at this time."""
        return self.expires_at - now >= REFRESH_BEFORE_SECONDS

    def renewed(self, tokens: Tokens, now: float) -> Login:
        """Return the login after a refresh at this time."""
        return replace(
            self,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_at=now + tokens.lifetime_seconds,
        )


class TokenFile:
    """The file at `path`. Every method raises `InvalidSettings` if the file or its folder cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at_home(cls, environment: Mapping[str, str]) -> TokenFile:
        """Return the user's own, where the XDG Base Directory Specification has it."""
        folder = Path(environment.get("XDG_CONFIG_HOME", ""))
        if not folder.is_absolute():  # as unset, says the specification
            try:
                folder = Path.home() / ".config"
            except RuntimeError:
                raise InvalidSettings(["there is no home for the tokens; set XDG_CONFIG_HOME to a folder"]) from None
        return cls(folder / "tl-fif" / "tokens.json")

    def read(self) -> dict[str, Login]:
        """Return every login by the normalised URL of its service; none where there is no file."""
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                content = file.read()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error) from error
        if mode & _OTHERS:
            whose = f"others may read the tokens in {self.path} (mode {mode:04o})"
            raise InvalidSettings([f"{whose}; run `chmod 600` on it, and `tlfif login` again if anybody could have"])
        try:
            whole = Fields.parse(content, "the file")
            return {url: Login.read(Fields(entry, url)) for url, entry in whole.value.items()}
        except UnexpectedAnswer:
            raise InvalidSettings(
                [f"{self.path} does not hold what tlfif stored; delete it and run `tlfif login` again"]
            ) from None

    def store(self, service: str, login: Login) -> None:
        """Add the login for a service, or replace it."""
        with self.locked():
            self.write(self.read() | {service: login})

    def write(self, logins: Mapping[str, Login]) -> None:
        """Replace the file, with the lock held. A reader finds the old one or the new one, never a part."""
        new = self.path.with_name("tokens.json.new")
        content = json.dumps({service: asdict(login) for service, login in logins.items()}, indent=1).encode()
        try:
            new.unlink(missing_ok=True)  # left by a process that was killed
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the file; make its folder if need be."""
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _unusable(self, error: OSError) -> InvalidSettings:
        return InvalidSettings(
            [f"the tokens cannot be kept in {self.path}: {error.strerror}; mend it, or set TLFIF_TOKEN instead"]
        )


def fresh_token(file: TokenFile, url: str, clock: Callable[[], float], refresh: Callable[[Login], Tokens]) -> str:
    """Return the stored access token for the service at this URL, "" if there is none.

    One that is about to expire is exchanged by `refresh` and stored. Whoever comes second waits for the lock and
    takes what the first one got, since a refresh token may be good for one exchange only. `clock` tells Unix seconds.

    Raises:
        ClientError: what `refresh` raises, or `InvalidSettings` for the file.
    """
    service = service_key(url)
    login = file.read().get(service)
    if login is None:
        return ""
    if login.is_fresh(clock()):
        return login.access_token
    with file.locked():
        logins = file.read()
        login = logins.get(service, login)
        now = clock()
        if not login.is_fresh(now):
            login = login.renewed(refresh(login), now)
            file.write(logins | {service: login})
    return login.access_token


def service_key(url: str) -> str:
    """Return the one form of all URLs of a service that mean the same."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
