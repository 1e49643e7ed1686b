"""Every log on the node is rotated, and by one alone: supervisord, or logrotate for what nobody else rotates."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.infra.agent_world import CONFIG, FOLDER, REPOSITORY, rendered

RULES = {path.name: path.read_text(encoding="utf-8") for path in (FOLDER / "logrotate.d").iterdir()}
UNITS = {"KB": 2**10, "MB": 2**20, "K": 2**10, "M": 2**20}


def size(text: str) -> int:
    """Return bytes, of a size as supervisord or logrotate has it."""
    found = re.fullmatch(r"(\d+)([A-Z]+)", text)
    assert found is not None, text
    return int(found[1]) * UNITS[found[2]]


def supervisord() -> dict[str, tuple[int, int]]:
    """Return what supervisord rotates: the path, at how many bytes, and how many old files it keeps."""
    parser = configparser.RawConfigParser()
    parser.read(REPOSITORY / "supervisord" / "supervisord.conf", encoding="utf-8")
    found = {}
    for section, prefix in (("supervisord", ""), ("program:worker", "stdout_"), ("program:worker", "stderr_")):
        path = parser.get(section, f"{prefix}logfile").replace("%(ENV_TLFIF_LOGS)s", "/var/log/tl-fif")
        limit = size(parser.get(section, f"{prefix}logfile_maxbytes"))
        found[path] = (limit, parser.getint(section, f"{prefix}logfile_backups"))
    return found


def logrotate() -> dict[str, str]:
    """Return what logrotate rotates: the path, and how."""
    rule = re.compile(r"^(/\S+) \{\n(.+?)^\}", re.MULTILINE | re.DOTALL)
    return {path: how for text in RULES.values() for path, how in rule.findall(text)}


def limit_of(rule: str) -> int:
    """Return the bytes at which a rule of logrotate's rotates."""
    found = re.search(r"^ +size (\w+)$", rule, re.MULTILINE)
    assert found is not None
    return size(found[1])


def test_every_log_that_is_shipped_is_rotated(tmp_path: Path) -> None:
    """A full disk would end the worker; the agent's own log is rotated by the agent."""
    config, _ = rendered(tmp_path)
    shipped = {each["file_path"] for each in config["logs"]["logs_collected"]["files"]["collect_list"]}
    assert shipped == supervisord().keys() | logrotate().keys(), CONFIG


def test_nothing_is_rotated_twice() -> None:
    """Under supervisord a file never grows to where logrotate would begin."""
    both = supervisord().keys() & logrotate().keys()
    assert both == {"/var/log/tl-fif/worker.log", "/var/log/tl-fif/worker-stderr.log"}
    for path in both:
        assert limit_of(logrotate()[path]) > supervisord()[path][0] * 1.1
        assert f"rotate {supervisord()[path][1]}\n" in logrotate()[path], "as many old files either way"


def test_writers_keep_their_file() -> None:
    """None of them can be told to open another one: systemd's append, and nginx whose next start could not open it."""
    for rule in logrotate().values():
        assert "copytruncate" in rule
        assert not re.search(r"\b(create|postrotate|su root)\b", rule)


# logrotate's own word


def run_logrotate(folder: Path, *options: str, spoil: str = "") -> subprocess.CompletedProcess[str]:
    """Run logrotate over both files in a scratch root, as the user that runs the tests."""
    program = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("logrotate is not installed; Debian and Amazon Linux have it as a package")
    rules = folder / "rules"
    text = "\n".join(RULES.values()).replace("/var/log", f"{folder}/log").replace("    su tlfif tlfif\n", "")
    rules.write_text(text + spoil, encoding="utf-8")
    command = [program, "--state", str(folder / "state"), *options, str(rules)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def filled(folder: Path, name: str, megabytes: int) -> Path:
    """Return a log of that size, without the blocks that it would take."""
    path = folder / "log" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as log:
        log.truncate(megabytes * 2**20)
    return path


def test_logrotate_takes_the_files(tmp_path: Path) -> None:
    """Each line of them; one that it does not know is found."""
    assert "error" not in run_logrotate(tmp_path, "--debug").stderr
    assert "unknown option 'frobnicate'" in run_logrotate(tmp_path, "--debug", spoil="frobnicate\n").stderr


def test_logrotate_rotates_what_has_grown(tmp_path: Path) -> None:
    """The file stays the same one, and goes on from nothing; what supervisord would have rotated is left alone."""
    worker = filled(tmp_path, "tl-fif/worker.log", 61)
    small = filled(tmp_path, "tl-fif/worker-stderr.log", 5)
    access = filled(tmp_path, "nginx/access.log", 21)
    same = worker.stat().st_ino
    done = run_logrotate(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (worker.stat().st_size, worker.stat().st_ino) == (0, same)
    assert worker.with_name("worker.log.1").stat().st_size == 61 * 2**20
    assert access.with_name("access.log.1").exists()
    assert small.stat().st_size == 5 * 2**20
    assert run_logrotate(tmp_path).stderr == ""
    assert not worker.with_name("worker.log.2").exists()
