"""How the documents under guard/ are read: by signed GETs, from a real S3 server and from servers that are none."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from local.s3_server import S3Server
from router_lambda.budget import (
    BLOCK_KEY,
    BUDGET_UNKNOWN,
    CHECK_SECONDS,
    MAX_DOCUMENT_BYTES,
    SPEND_KEY,
    Guard,
    Unreadable,
    make_check,
)
from router_lambda.ec2 import Ec2Unavailable
from router_lambda.signing import Signer
from tests.integration.guard_world import Bucket, emptied

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Bucket]:
    """Yield the bucket."""
    with emptied(s3_server) as made:
        yield made


def guard(environment: dict[str, str], bucket: str = "tl-fif") -> Guard:
    """Return what reads there."""
    return Guard(Signer(bucket, environment).sign_get)


def test_what_is_there_is_read(s3_server: S3Server, bucket: Bucket) -> None:
    """Both, one, or none."""
    reader = guard(s3_server.environment())
    assert reader.read() == (None, None)
    bucket.put(BLOCK_KEY, b"{}")
    assert reader.read() == (None, b"{}")
    bucket.put(SPEND_KEY, b"[1]")
    assert reader.read() == (b"[1]", b"{}")


def test_other_credentials_read_nothing(s3_server: S3Server, bucket: Bucket) -> None:
    """That is no absent object; and the reason holds neither signature nor key."""
    bucket.spend(1.0)
    with pytest.raises(Unreadable, match=r"^S3 answers 403$"):
        guard(s3_server.environment() | {"AWS_SECRET_ACCESS_KEY": "another"}).read()


@pytest.mark.usefixtures("bucket")
def test_another_bucket_has_no_spend(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """So nothing is started."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Ec2Unavailable) as refused:
        make_check("tl-fif-other", 20.0)()
    assert refused.value.code == BUDGET_UNKNOWN


def test_what_is_too_large_is_none_of_ours(s3_server: S3Server, bucket: Bucket) -> None:
    """Up to the limit it is read whole."""
    bucket.put(SPEND_KEY, bytes(MAX_DOCUMENT_BYTES))
    assert guard(s3_server.environment()).read() == (bytes(MAX_DOCUMENT_BYTES), None)
    bucket.put(SPEND_KEY, bytes(MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(Unreadable, match="too large"):
        guard(s3_server.environment()).read()


# Servers that are no S3


class Server(http.server.ThreadingHTTPServer):
    """An HTTP server on loopback that gives the `answer` of the moment, and notes connections and paths."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answer: Answer = answering(404)
        self.connections = 0
        self.asked: list[str] = []
        self.over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_GET(self) -> None:
                server.asked.append(self.path.partition("?")[0])
                with contextlib.suppress(OSError):  # a client that has left
                    server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def environment(self) -> dict[str, str]:
        """What leads there."""
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "eu-central-1"}
        return keys | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.server_port}"}


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Return an answer."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return send


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server that has nothing."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.over.set()
    made.shutdown()
    thread.join()
    made.server_close()


def test_both_come_over_one_connection(server: Server) -> None:
    """One TLS handshake is enough; a server that ends each of them is put up with."""
    assert guard(server.environment).read() == (None, None)
    assert server.connections == 1
    server.answer = answering(200, b"{}", connection="close")
    assert guard(server.environment).read() == (b"{}", b"{}")
    assert server.connections == 3


def test_the_block_is_read_last(server: Server) -> None:
    """What it lets through is to follow at once."""
    guard(server.environment).read()
    assert server.asked == [f"/tl-fif/{SPEND_KEY}", f"/tl-fif/{BLOCK_KEY}"]


@pytest.mark.parametrize("status", [204, 206, 301, 307, 400, 403, 416, 500, 503])
def test_any_other_answer_is_no_document(server: Server, status: int) -> None:
    """Nor is a redirect followed: it would lead out of the region, and no signature survives that."""
    server.answer = answering(status, location="http://127.0.0.1:1/")
    with pytest.raises(Unreadable, match=f"^S3 answers {status}$"):
        guard(server.environment).read()


def test_the_block_has_to_be_readable_as_well(server: Server) -> None:
    """A spend alone lets nothing start."""
    answers = iter([answering(200, b"{}"), answering(403)])

    def answer(request: BaseHTTPRequestHandler) -> None:
        next(answers)(request)

    server.answer = answer
    with pytest.raises(Unreadable, match="403"):
        guard(server.environment).read()


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


def _babble(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"hello\r\n\r\n")
    request.close_connection = True


@pytest.mark.parametrize("answer", [_hang_up, _babble], ids=["nothing", "nonsense"])
def test_no_answer_is_no_document(server: Server, answer: Answer) -> None:
    """The reason names what happened and no address, which is signed."""
    server.answer = answer
    with pytest.raises(Unreadable, match=r"^S3 does not answer \((RemoteDisconnected|BadStatusLine)\)$"):
        guard(server.environment).read()


def test_nobody_is_no_document() -> None:
    """The endpoint leads nowhere."""
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "eu-central-1"}
    with pytest.raises(Unreadable, match=r"^S3 does not answer \(ConnectionRefusedError\)$"):
        guard(keys | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}).read()


def test_a_server_that_is_silent_is_left(server: Server) -> None:
    """After a second."""

    def wait(_: BaseHTTPRequestHandler) -> None:
        server.over.wait(10)

    server.answer = wait
    began = time.monotonic()
    with pytest.raises(Unreadable, match="TimeoutError"):
        guard(server.environment).read()
    assert time.monotonic() - began < CHECK_SECONDS


def test_a_look_that_took_too_long_lets_nothing_start(server: Server) -> None:
    """The killer does not look for a start that comes of it any more."""
    times = iter([0.0, CHECK_SECONDS + 0.01])
    reader = Guard(Signer("tl-fif", server.environment).sign_get, lambda: next(times))
    with pytest.raises(Unreadable, match="too slowly"):
        reader.read()
