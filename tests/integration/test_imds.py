"""How a worker learns which instance it runs on."""

from __future__ import annotations

import pytest

from local.metadata import MetadataServer
from worker import imds


async def test_the_instances_own_id() -> None:
    """By a token, as IMDSv2 wants it."""
    with MetadataServer(lambda: "i-0123456789abcdef0") as metadata:
        assert await imds.instance_id(metadata.url) == "i-0123456789abcdef0"
        assert await imds.instance_id(metadata.url + "/") == "i-0123456789abcdef0"


@pytest.mark.parametrize("answer", ["", "local", "i-", "i-0\r\nx", "<html>"])
async def test_what_is_no_id(answer: str) -> None:
    """Whoever answers there is not EC2."""
    with MetadataServer(lambda: answer) as metadata:
        assert await imds.instance_id(metadata.url) is None


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again for a while, as on every machine that is not EC2's."""
    monkeypatch.setattr(imds, "_ID_SECONDS", 0.2)
    monkeypatch.setattr(imds, "_ID_PAUSE_SECONDS", 0.01)
    assert await imds.instance_id("http://127.0.0.1:1") is None


def test_a_workers_name_may_be_an_id() -> None:
    """Then it names the instance as well."""
    assert all(map(imds.looks_like_an_instance, ["i-0123456789abcdef0", "i-1"]))
    assert not any(map(imds.looks_like_an_instance, ["gpu-1", "i-", "i-G", "xi-1"]))
