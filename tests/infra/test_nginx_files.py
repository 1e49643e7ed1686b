"""The proxy on the node: its files, what systemd says of them, and what they have in common with the worker."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn

from ami import acm
from ami.certificate import FOLDER as CERTIFICATES
from ami.pair import PAIR
from worker.exchange import BODY_BYTES
from worker.openai_api import REQUEST_SECONDS
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
FILES = ROOT / "ami" / "nginx"
CONFIGURATION = (FILES / "nginx.conf").read_text(encoding="utf-8")
DIRECTIVES = [line.strip() for line in CONFIGURATION.splitlines() if not line.strip().startswith("#")]

PACKAGE_UNIT = """\
[Unit]
Description=The nginx HTTP and reverse proxy server
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStartPre=/usr/bin/rm -f /run/nginx.pid
ExecStartPre=/usr/sbin/nginx -t
ExecStart=/usr/sbin/nginx
ExecReload=/usr/sbin/nginx -s reload
KillSignal=SIGQUIT
TimeoutStopSec=5
KillMode=mixed
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
"""nginx.service as Fedora has it, which Amazon Linux's package comes from; the drop-in is laid over it."""

MOST_EXPOSED = {"nginx.service": 2.5, "tl-fif-certificate.service": 2.0}
"""What `systemd-analyze security` may say of each, from 0 to 10; of nginx.service without the drop-in it says 9.4."""


def settings(*texts: str) -> dict[str, list[str]]:
    """Read a unit and its drop-ins as systemd does: an empty value takes back what stood before."""
    read: dict[str, list[str]] = {}
    for line in "\n".join(texts).splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            read[key] = [*read.get(key, []), value] if value else []
    return read


DROP_IN = (FILES / "nginx.service.d" / "tl-fif.conf").read_text(encoding="utf-8")
NGINX = settings(PACKAGE_UNIT, DROP_IN)
CERTIFICATE = settings((FILES / "tl-fif-certificate.service").read_text(encoding="utf-8"))


def directive(name: str) -> list[str]:
    """Return the values of a directive."""
    return [line.removeprefix(name).strip(" ;") for line in DIRECTIVES if line.startswith(f"{name} ")]


def seconds(value: str) -> int:
    """Return nginx's time in seconds."""
    return int(value[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[value[-1]]


# nginx


def test_it_listens_on_443_alone() -> None:
    """With TLS, over IPv4 and IPv6."""
    assert directive("listen") == ["443 ssl default_server", "[::]:443 ssl default_server"]


def test_it_leads_to_the_worker_and_to_nobody_else() -> None:
    """On loopback, at the port that the worker has unless it is told another."""
    assert directive("server") == [f"127.0.0.1:{Settings.model_fields['http_port'].default}", "{"]
    assert directive("proxy_pass") == ["http://worker"]


def test_secrets_and_prompts_are_kept_in_memory() -> None:
    """Every path but the log's is below /run; key and certificate are what the program writes."""
    paths = set(re.findall(r"(?<=\s)/[a-z]+/[^\s;]+", "\n".join(DIRECTIVES)))
    assert {path for path in paths if not path.startswith("/run/")} - {"/v1/"} == {"/var/log/nginx/access.log"}
    assert set(directive("ssl_certificate") + directive("ssl_certificate_key")) == {str(CERTIFICATES / PAIR)}


def test_the_log_names_nothing_that_a_client_chooses() -> None:
    """Its variables are nginx's own, or maps with nothing but known words in them."""
    (log_format,) = re.findall(r"log_format json.*?;", CONFIGURATION, re.DOTALL)
    variables = set(re.findall(r"\$(\w+)", log_format))
    assert {"request_id", "status", "request_time", "first_byte"} <= variables
    forbidden = re.compile(
        r"request|request_uri|uri|args|query_string|host|request_method|request_body|(http|arg|cookie)_.*"
    )
    assert [name for name in variables if forbidden.fullmatch(name)] == []


def test_it_is_as_large_and_as_patient_as_the_worker() -> None:
    """Who gives up first is the one who can say why."""
    assert directive("client_max_body_size") == directive("client_body_buffer_size") == [f"{BODY_BYTES >> 20}m"]
    assert directive("limit_conn") == [f"connections {Settings.model_fields['max_concurrency'].default}"]
    assert seconds(directive("proxy_read_timeout")[0]) > REQUEST_SECONDS
    assert seconds(directive("worker_shutdown_timeout")[0]) > REQUEST_SECONDS
    browsers, worker = (seconds(value) for value in directive("keepalive_timeout"))
    assert worker < inspect.signature(uvicorn.Config).parameters["timeout_keep_alive"].default < browsers


# systemd


def test_nginx_comes_after_its_certificate_and_without_the_worker() -> None:
    """Without a certificate it is tried again and again; neither it nor the worker waits for the other."""
    assert "tl-fif-certificate.service" in NGINX["Wants"]
    assert "tl-fif-certificate.service" in NGINX["After"]
    assert (NGINX["Restart"], NGINX["StartLimitIntervalSec"]) == (["always"], ["0"])
    workers = {path: path.read_text(encoding="utf-8") for path in (ROOT / "supervisord").glob("*.service")}
    assert len(workers) >= 3
    for path, text in workers.items():
        ours = [value for key in ("After", "Before", "Wants", "Requires") for value in NGINX.get(key, [])]
        assert path.name not in " ".join(ours)
        assert not re.search(r"nginx|tl-fif-certificate", text), path


def test_nginx_is_confined() -> None:
    """Nothing is left of the package's way to start it, and its last answers get the worker's time."""
    assert (NGINX["Type"][-1], NGINX["PIDFile"]) == ("exec", [])
    assert "daemon off;" in DIRECTIVES
    assert NGINX["ExecStart"] == ["/usr/sbin/nginx -e stderr"]
    assert int(NGINX["TimeoutStopSec"][-1]) > Settings.model_fields["drain_seconds"].default + 12
    assert NGINX["ProtectSystem"] == ["strict"]
    run = {f"/run/{NGINX['RuntimeDirectory'][0]}/", f"{CERTIFICATES}/"}
    assert {str(Path(path).parent) + "/" for path in re.findall(r"/run/[^\s;]+", "\n".join(DIRECTIVES))} == run
    assert NGINX["LogsDirectory"] == ["nginx"]


def test_the_certificate_is_where_nginx_looks_and_outlives_its_maker() -> None:
    """In a folder of /run that stays when the program ends; its settings are the worker's, which may not be there."""
    assert f"/run/{CERTIFICATE['RuntimeDirectory'][0]}" == str(CERTIFICATES)
    assert CERTIFICATE["RuntimeDirectoryPreserve"] == ["yes"]
    assert CERTIFICATE["EnvironmentFile"] == ["-/etc/tl-fif/worker.env"]
    assert CERTIFICATE["Before"] == ["nginx.service"]
    assert "--no-block" in CERTIFICATE["ExecStart"][0]  # nginx's start waits for this program


def test_the_certificate_s_maker_may_wait_for_acm_twice() -> None:
    """For itself, and for the one that holds the lock."""
    config = acm._CONFIG
    once = config.retries["total_max_attempts"] * (config.connect_timeout + config.read_timeout)
    assert int(CERTIFICATE["TimeoutStartSec"][0]) > 2 * once


def laid_out(folder: Path, drop_in: str = DROP_IN) -> list[str]:
    """Put the units into a folder, with programs that are here; return their paths."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed; it comes with systemd")
    for name in ("tl-fif-certificate.service", "tl-fif-certificate.timer"):
        shutil.copy(FILES / name, folder)
    (folder / "nginx.service").write_text(PACKAGE_UNIT)
    (folder / "nginx.service.d").mkdir()
    (folder / "nginx.service.d" / "tl-fif.conf").write_text(drop_in)
    for path in folder.rglob("*.*"):
        if path.is_file():
            text = path.read_text().replace("/opt/tl-fif/.venv/bin/python", sys.executable)
            path.write_text(text.replace("/usr/sbin/nginx", "/bin/true").replace("/usr/bin/systemctl", "/bin/true"))
    return [str(path) for path in folder.iterdir() if path.is_file()]


def verdict(folder: Path, drop_in: str = DROP_IN) -> list[str]:
    """Return what systemd says about the units."""
    command = ["systemd-analyze", "verify", "--man=no", *laid_out(folder, drop_in)]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    return [line for line in said.splitlines() if "nginx" in line or "tl-fif" in line]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Every setting, the drop-in's too."""
    assert verdict(tmp_path) == []


def test_systemd_would_refuse(tmp_path: Path) -> None:
    """The check can fail."""
    assert "ProtectClocks" in "".join(verdict(tmp_path, DROP_IN.replace("ProtectClock=", "ProtectClocks=")))


def exposure(folder: Path, unit: str) -> float:
    """Return how exposed systemd calls a unit."""
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    command = ["systemd-analyze", "security", "--offline=yes", str(folder / unit)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "unrecognized option" in said.stderr:
        pytest.skip("this systemd-analyze is older than 250 and reads no units that are not loaded")
    (found,) = re.findall(r"exposure level for \S+: (\d+\.\d)", said.stdout) or pytest.fail(said.stderr)
    return float(found)


@pytest.mark.parametrize("unit", MOST_EXPOSED)
def test_a_unit_is_exposed_little(tmp_path: Path, unit: str) -> None:
    """By systemd's own reckoning."""
    laid_out(tmp_path)
    found = exposure(tmp_path, unit)
    sys.stdout.write(f"{unit}: {found}\n")
    assert found <= MOST_EXPOSED[unit]


def test_exposure_would_be_noticed(tmp_path: Path) -> None:
    """The package's own unit is above any bound."""
    laid_out(tmp_path, "")
    assert exposure(tmp_path, "nginx.service") > 8


# The image


def test_the_files_are_installed_as_they_are(tmp_path: Path) -> None:
    """In their places, and the second time nothing changes."""
    if not shutil.which("systemctl"):
        pytest.skip("systemctl is not installed; it enables units in a folder, too")
    environment = {**os.environ, "TLFIF_ROOT": str(tmp_path), "TLFIF_DRY_RUN": "1"}
    seen = []
    for _ in range(2):
        said = subprocess.run([FILES / "install.sh"], env=environment, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        assert said.stdout == "would run: systemctl enable nginx.service\n"
        seen.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()})
    assert seen[0] == seen[1]
    places = {
        "nginx.conf": "etc/nginx",
        "nginx.service.d/tl-fif.conf": "etc/systemd/system",
        "tl-fif-certificate.service": "etc/systemd/system",
        "tl-fif-certificate.timer": "etc/systemd/system",
    }
    for name, place in places.items():
        assert (tmp_path / place / name).read_bytes() == (FILES / name).read_bytes()
        assert (tmp_path / place / name).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc/systemd/system/timers.target.wants/tl-fif-certificate.timer").is_symlink()
