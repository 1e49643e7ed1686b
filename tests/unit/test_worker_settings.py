"""The worker's settings: defaults, every error at once, secrets masked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from worker.errors import SettingsError
from worker.settings import Settings

NEEDED = {
    "TLFIF_REDIS_URL": "redis://:hunter2@127.0.0.1:6379/0",
    "TLFIF_BUCKET": "replies",
    "TLFIF_MODEL": "org/model",
}


@pytest.fixture(autouse=True)
def only_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test from an environment with the needed variables and no other of ours."""
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.validation_alias or f"TLFIF_{name.upper()}"), raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_defaults() -> None:
    """What is not set has the documented default."""
    settings = Settings.from_environment()
    assert (settings.http_port, settings.max_concurrency, settings.drain_seconds) == (8000, 64, 30.0)
    assert settings.engine_args == {}
    assert (settings.stall_seconds, settings.idle_minutes, settings.boot_deadline_seconds) == (60.0, 5.0, 600.0)
    assert (settings.worker_id, settings.halt_command) == (None, ())
    assert (settings.metadata_disabled, settings.metadata_endpoint) == (False, "http://169.254.169.254")


def test_every_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six mistakes give six problems, each with the variable's name and what to do."""
    monkeypatch.delenv("TLFIF_BUCKET")
    monkeypatch.setenv("TLFIF_REDIS_URL", "http://:hunter2@host")
    monkeypatch.setenv("TLFIF_MODEL", "/does/not/exist")
    monkeypatch.setenv("TLFIF_ENGINE_ARGS", "{'dtype': 'half'}")
    monkeypatch.setenv("TLFIF_HTTP_PORT", "eighty")
    monkeypatch.setenv("TLFIF_MAX_CONCURRENCY", "0")
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()
    named = {problem.split()[0] for problem in caught.value.problems}
    assert named == {
        "TLFIF_BUCKET",
        "TLFIF_REDIS_URL",
        "TLFIF_MODEL",
        "TLFIF_ENGINE_ARGS",
        "TLFIF_HTTP_PORT",
        "TLFIF_MAX_CONCURRENCY",
    }
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["[1]", '"x"', "{", "3"])
def test_engine_args_must_be_an_object(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Whatever is no JSON object is refused by name."""
    monkeypatch.setenv("TLFIF_ENGINE_ARGS", value)
    with pytest.raises(SettingsError, match="TLFIF_ENGINE_ARGS is wrong: must be a JSON object"):
        Settings.from_environment()


def test_engine_args_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON types arrive as they are."""
    monkeypatch.setenv("TLFIF_ENGINE_ARGS", '{"dtype": "half", "max_model_len": 2048}')
    assert Settings.from_environment().engine_args == {"dtype": "half", "max_model_len": 2048}


def test_an_existing_folder_is_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A path is checked, a hub id is not."""
    monkeypatch.setenv("TLFIF_MODEL", str(tmp_path))
    assert Settings.from_environment().model == str(tmp_path)


def test_the_password_is_never_shown() -> None:
    """Neither repr nor str shows what the Redis URL holds."""
    settings = Settings.from_environment()
    assert "hunter2" not in repr(settings) + str(settings)
    assert settings.redis_url.get_secret_value().endswith("@127.0.0.1:6379/0")


def test_settings_never_change() -> None:
    """They are frozen."""
    settings = Settings.from_environment()
    with pytest.raises(ValueError, match="frozen"):
        settings.bucket = "other"


def test_empty_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """`TLFIF_ENGINE_ARGS=` in a unit file means the default."""
    monkeypatch.setenv("TLFIF_ENGINE_ARGS", "")
    assert Settings.from_environment().engine_args == {}


def test_the_instance_metadata_is_set_by_the_sdk_s_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """And named by them when they are wrong."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1338")
    settings = Settings.from_environment()
    assert (settings.metadata_disabled, settings.metadata_endpoint) == (True, "http://127.0.0.1:1338")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "perhaps")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ftp://127.0.0.1")
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()
    assert {problem.split()[0] for problem in caught.value.problems} == {
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    }


@pytest.mark.parametrize("value", ["0", "-1", "nan", "never"])
def test_a_stall_limit_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Zero would call every engine dead."""
    monkeypatch.setenv("TLFIF_STALL_SECONDS", value)
    with pytest.raises(SettingsError, match="TLFIF_STALL_SECONDS"):
        Settings.from_environment()


@pytest.mark.parametrize("value", ["0", "-5", "31", "nan", "soon"])
def test_an_idle_time_outside_its_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Zero would stop every GPU before its first job, and half an hour is the most that a job may ask for."""
    monkeypatch.setenv("TLFIF_IDLE_MINUTES", value)
    with pytest.raises(SettingsError, match="TLFIF_IDLE_MINUTES"):
        Settings.from_environment()


@pytest.mark.parametrize("value", ["0", "nan", "1e9"])
def test_a_boot_deadline_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """No boot could meet it, or any."""
    monkeypatch.setenv("TLFIF_BOOT_DEADLINE_SECONDS", value)
    with pytest.raises(SettingsError, match="TLFIF_BOOT_DEADLINE_SECONDS"):
        Settings.from_environment()


def test_a_halt_command_is_split_as_a_shell_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """But no shell runs it; a quote that is left open is an error and not a surprise at the stop."""
    monkeypatch.setenv("TLFIF_HALT_COMMAND", "sudo shutdown -h 'now please'")
    assert Settings.from_environment().halt_command == ("sudo", "shutdown", "-h", "now please")
    monkeypatch.setenv("TLFIF_HALT_COMMAND", "sudo 'shutdown")
    with pytest.raises(SettingsError, match="TLFIF_HALT_COMMAND"):
        Settings.from_environment()


def test_api_keys_are_known_by_their_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, or several while one is replaced; none is the default, and opens nothing."""
    one, two = (hashlib.sha256(key).digest() for key in (b"one", b"two"))
    assert Settings.from_environment().api_key_sha256 == ()
    monkeypatch.setenv("TLFIF_API_KEY_SHA256", f"{one.hex()},{two.hex().upper()}")
    assert Settings.from_environment().api_key_sha256 == (one, two)


@pytest.mark.parametrize("value", ["my-key", "ab12", "0" * 63, "0" * 66, ",", f"{'0' * 64},", f"{'0' * 64};{'0' * 64}"])
def test_what_is_no_hash_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A key itself above all; and it is not shown."""
    monkeypatch.setenv("TLFIF_API_KEY_SHA256", value)
    with pytest.raises(SettingsError, match="TLFIF_API_KEY_SHA256") as caught:
        Settings.from_environment()
    assert value == "," or value not in str(caught.value)
