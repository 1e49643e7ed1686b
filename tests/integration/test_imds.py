"""How a worker learns which instance it runs on."""

from __future__ import annotations

from pathlib import Path

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


async def test_the_firmware_is_asked_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It knows the id before there is a network."""
    tag = tmp_path / "board_asset_tag"
    tag.write_text("i-0123456789abcdef0\n")
    monkeypatch.setattr(imds, "BOARD_TAG", tag)
    assert await imds.instance_id(imds.ENDPOINT) == "i-0123456789abcdef0"


async def test_the_firmware_is_not_asked_where_somebody_plays_ec2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the local system does, perhaps on an instance: that one must not be stopped."""
    tag = tmp_path / "board_asset_tag"
    tag.write_text("i-0bad\n")
    monkeypatch.setattr(imds, "BOARD_TAG", tag)
    with MetadataServer(lambda: "i-0123456789abcdef0") as metadata:
        assert await imds.instance_id(metadata.url) == "i-0123456789abcdef0"


@pytest.mark.parametrize("held", [b"", b"Not Specified\n", b"\xff\n", b"i-\n", None])
def test_firmware_that_knows_no_id(tmp_path: Path, held: bytes | None) -> None:
    """As on every machine that is not EC2's, and on its older ones."""
    tag = tmp_path / "board_asset_tag"
    if held is not None:
        tag.write_bytes(held)
    assert imds.id_on_board(tag) is None


def test_a_workers_name_may_be_an_id() -> None:
    """Then it names the instance as well."""
    assert all(map(imds.looks_like_an_instance, ["i-0123456789abcdef0", "i-1"]))
    assert not any(map(imds.looks_like_an_instance, ["gpu-1", "i-", "i-G", "xi-1"]))
