"""Signs addresses under which objects of a bucket can be read, for whoever holds them, without another request.

By AWS Signature Version 4 in the query string, with the payload unsigned, as S3 has it:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html. The SDK would do the same, but costs a
cold start more than all the rest of the router: docs/adr/ADR-2026-11-23-presign-without-boto3.md.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from router_lambda.settings import RouterConfigError

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_CREDENTIALS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}

_HOST_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""A bucket's name that can stand in a host name: with a dot in it, the certificate of S3 would not match."""


class Signer:
    """Signs for the objects of one `bucket`. That is arithmetic: no request leaves it."""

    def __init__(
        self, bucket: str, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.time
    ) -> None:
        """Take the variables that Lambda sets and every AWS SDK reads.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        self._environment = environment
        self._clock = clock
        self._region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
        problems = _missing_credentials(environment)
        if not self._region:
            problems.append("set AWS_REGION")
        self._where = _where(bucket, self._region, environment, problems)
        if problems:
            raise RouterConfigError(problems)

    def sign_get(self, key: str, seconds: int) -> str:
        """Return the presigned GET address of an object, which is good for so many seconds.

        Raises:
            RouterConfigError: the credentials are no longer in the environment.
        """
        # Credentials are read anew each time: they may change while the process lives.
        if missing := _missing_credentials(self._environment):
            raise RouterConfigError(missing)
        access_key, secret = (self._environment[name] for name in _CREDENTIALS)
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        query = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{access_key}/{scope}",
            "X-Amz-Date": now,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if token := self._environment.get("AWS_SESSION_TOKEN"):
            query["X-Amz-Security-Token"] = token
        where = self._where
        path = f"{where.path}/{quote(key)}"
        pairs = [f"{name}={quote(value, safe='')}" for name, value in query.items()]
        request = ("GET", path, "&".join(sorted(pairs)), f"host:{_host(where)}", "", "host", "UNSIGNED-PAYLOAD")
        digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
        signature = _sign(secret, scope, f"{_ALGORITHM}\n{now}\n{scope}\n{digest}")
        return f"{where.scheme}://{where.netloc}{path}?{'&'.join(pairs)}&X-Amz-Signature={signature}"


def _sign(secret: str, scope: str, text: str) -> str:
    """Return the signature of `text`, in hexadecimal, by the key that is derived for its scope."""
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def _host(where: SplitResult) -> str:
    """Return the `Host` header that an HTTP client sends there."""
    return where.netloc.lower().removesuffix(_DEFAULT_PORTS[where.scheme])


def _where(bucket: str, region: str, environment: Mapping[str, str], problems: list[str]) -> SplitResult:
    """Return the bucket's address, without a slash at its end; what is wrong is added to `problems`."""
    in_path = "/" + quote(bucket)
    for name in _ENDPOINTS:
        if endpoint := environment.get(name):
            if not _is_endpoint(endpoint):
                problems.append(f"write {name} like http://minio:9000")
                break
            # Always in the path: a server that is known by its host name alone has none for every bucket.
            return urlsplit(endpoint.rstrip("/") + in_path)
    domain = f"s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
    return urlsplit(f"https://{bucket}.{domain}" if _HOST_LABEL.fullmatch(bucket) else f"https://{domain}{in_path}")


def _is_endpoint(url: str) -> bool:
    """Tell whether this can be the beginning of an address that clients are told: no secrets, no query."""
    try:
        parts = urlsplit(url)
        usual = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False
    return usual and "@" not in parts.netloc and not parts.query and not parts.fragment


def _missing_credentials(environment: Mapping[str, str]) -> list[str]:
    return [f"set {name}" for name in _CREDENTIALS if not environment.get(name)]
