"""The worker's settings: read once, checked all at once, never changed."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from router_lambda.job import DEFAULT_IDLE_MINUTES
from worker import imds
from worker.errors import SettingsError
from worker.pulse import DEFAULT_STALL_SECONDS


def _redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://")
    return url


def _existing_model(model: str) -> str:
    looks_like_a_path = model.startswith(("/", "./", "../", "~")) or model.endswith(".gguf")
    if looks_like_a_path and not Path(model).expanduser().exists():
        raise ValueError("names a file or folder that does not exist")
    return str(Path(model).expanduser()) if looks_like_a_path else model


def _json_object(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"must be a JSON object: {error}") from None
    if not isinstance(parsed, dict):
        raise ValueError('must be a JSON object such as {"dtype": "half"}')  # noqa: TRY004 - pydantic wants ValueError
    return parsed


def _words(command: object) -> object:
    if not isinstance(command, str):
        return command
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise ValueError(f"must be a command line: {error}") from None


def _digests(listed: object) -> object:
    if not isinstance(listed, str):
        return listed
    try:
        digests = tuple(bytes.fromhex(each) for each in listed.split(","))
    except ValueError:
        digests = ()
    if {len(each) for each in digests} != {hashlib.sha256().digest_size}:
        raise ValueError("must be SHA-256 hashes in hex, 64 digits each, separated by commas")
    return digests


class Settings(BaseSettings):
    """Environment variables of the worker, each with the prefix `TLFIF_`.

    AWS endpoints, region and credentials come by the SDK's own variables.
    """

    model_config = SettingsConfigDict(env_prefix="TLFIF_", env_ignore_empty=True, extra="ignore", frozen=True)

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    """Where the queue is. May hold a password and is therefore never printed."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """S3 bucket of the replies."""

    model: Annotated[str, AfterValidator(_existing_model)]
    """Local folder, GGUF file or hub id."""

    engine_args: Annotated[dict[str, Any], NoDecode, BeforeValidator(_json_object)] = {}
    """Passed to vLLM's `AsyncEngineArgs`; what stands here wins over what the worker would choose."""

    max_concurrency: Annotated[int, Field(ge=1, le=4_096)] = 64
    """Jobs that run at once; the others wait in Redis, where another worker can take them."""

    worker_id: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] = None
    """Names this worker in leases and logs, each its own; not set, its EC2 instance's id, or else the host's name."""

    idle_minutes: Annotated[float, Field(gt=0, le=30)] = float(DEFAULT_IDLE_MINUTES)
    """Idle minutes after which the worker stops its instance, unless a job asks for other ones; fractions for tests."""

    boot_deadline_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Seconds from the start of the process to its first heartbeat after which the instance is stopped instead."""

    halt_command: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = ()
    """Stops the machine when StopInstances fails, such as `sudo shutdown -h now`; no shell is involved."""

    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8_000
    """Port of `/healthz`, `/metrics` and `/v1` on 127.0.0.1; 0 takes any free one."""

    api_key_sha256: Annotated[tuple[bytes, ...], NoDecode, BeforeValidator(_digests)] = ()
    """SHA-256 of the keys for `/v1`: the keys themselves need not be here. Several, while one is replaced."""

    drain_seconds: Annotated[float, Field(ge=0, le=3_600)] = 30.0
    """Seconds that running jobs get to finish after the first SIGTERM; a second one ends them."""

    stall_seconds: Annotated[float, Field(gt=0, le=86_400)] = DEFAULT_STALL_SECONDS
    """Seconds without a token for any running job after which the engine counts as hung, and the worker ends."""

    metadata_disabled: Annotated[bool, Field(validation_alias="AWS_EC2_METADATA_DISABLED")] = False
    """The AWS SDK's own variable: true where there is no EC2 instance metadata, so that nobody looks for a notice."""

    metadata_endpoint: Annotated[
        str, Field(pattern=r"^https?://[^/]", validation_alias="AWS_EC2_METADATA_SERVICE_ENDPOINT")
    ] = imds.ENDPOINT
    """The AWS SDK's own variable: where the instance metadata is."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: naming every bad variable at once, without what it held.
        """
        try:
            return cls()  # type: ignore[call-arg]
        except ValidationError as error:
            raise SettingsError([_explain(problem) for problem in error.errors(include_input=False)]) from None


def _explain(problem: Any) -> str:
    field = str(problem["loc"][0])
    name = field if field.startswith("AWS_") else f"TLFIF_{field.upper()}"
    if problem["type"] == "missing":
        return f"{name} is missing; set it"
    return f"{name} is wrong: {problem['msg'].removeprefix('Value error, ')}"
