"""What keeps the worker running on the node: supervisord's configuration and systemd's units."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.__main__ import EXIT_BAD_SETTINGS, EXIT_ENGINE_DIED
from worker.settings import Settings

FOLDER = Path(__file__).parents[2] / "supervisord"
ENDING_SECONDS = 12
"""What a worker needs after its drain to hand jobs back and to end."""

GIVING_UP_SECONDS = 90
"""What a worker that does not come up spends at most on calls of StopInstances and on its halt command."""

PROGRAM = "program:worker"
GPU_HIDERS = {
    *("PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"),
    *("PrivateUsers", "ProcSubset"),
}
"""What would keep CUDA from its devices, from what /proc says of them, or from the code that it compiles."""

EXPOSURE = 2.5
"""Of 10, which is worst: what systemd-analyze makes of the units that run the worker, and what it may not exceed."""

WHERE_AND_HOW = {"User", "EnvironmentFile", "ExecStartPre", "KillMode", "NoNewPrivileges", "CapabilityBoundingSet"}


def configuration() -> configparser.RawConfigParser:
    """Read supervisord.conf."""
    parser = configparser.RawConfigParser()
    parser.read(FOLDER / "supervisord.conf", encoding="utf-8")
    return parser


def unit(name: str) -> dict[str, str]:
    """Read a unit: settings to values, those of a setting that stands there more than once joined by spaces."""
    read: dict[str, str] = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            read[key] = f"{read[key]} {value}" if key in read else value
    return read


CONFIGURATION = configuration()
WORKER = unit("tl-fif-worker.service")
SUPERVISORD = unit("tl-fif-supervisord.service")


def default(setting: str) -> float:
    """Return the default of a setting of the worker."""
    return float(Settings.model_fields[setting].default)


# Stops


def test_stops_wait_longer_than_the_worker_drains() -> None:
    """Whoever asks the worker to stop; and systemd waits longer for supervisord than that for the worker."""
    needed = default("drain_seconds") + ENDING_SECONDS
    supervisord_waits = CONFIGURATION.getint(PROGRAM, "stopwaitsecs")

    assert supervisord_waits > needed
    assert int(WORKER["TimeoutStopSec"]) > needed
    assert int(SUPERVISORD["TimeoutStopSec"]) > supervisord_waits


def test_sigterm_reaches_the_worker_alone_and_sigkill_all() -> None:
    """At vLLM's core, SIGTERM would make cut streams look finished."""
    assert CONFIGURATION.get(PROGRAM, "stopsignal") == "TERM"
    assert not CONFIGURATION.getboolean(PROGRAM, "stopasgroup")
    assert CONFIGURATION.getboolean(PROGRAM, "killasgroup")
    assert WORKER["KillMode"] == SUPERVISORD["KillMode"] == "mixed"


# Starts


def test_the_start_may_take_longer_than_the_worker_lets_it() -> None:
    """The worker gives up first, and stops its instance; one that is stuck is killed, or its end would be its last."""
    assert int(WORKER["TimeoutStartSec"]) > default("boot_deadline_seconds") + GIVING_UP_SECONDS
    assert WORKER["TimeoutStartFailureMode"] == "kill"


def test_a_wanted_stop_and_bad_settings_are_final() -> None:
    """Under either; the engine's death is not."""
    final = {0, EXIT_BAD_SETTINGS}

    assert {int(code) for code in CONFIGURATION.get(PROGRAM, "exitcodes").split(",")} == final
    assert {int(code) for code in WORKER["RestartPreventExitStatus"].split()} == final
    assert EXIT_ENGINE_DIED not in final


def test_everything_else_is_restarted_with_a_pause() -> None:
    """What dies at once is given up after some tries."""
    assert CONFIGURATION.get(PROGRAM, "autorestart") == "unexpected"
    assert CONFIGURATION.getint(PROGRAM, "startsecs") == 2
    assert CONFIGURATION.getint(PROGRAM, "startretries") >= 3
    assert CONFIGURATION.getboolean(PROGRAM, "autostart")
    assert WORKER["Restart"] == SUPERVISORD["Restart"] == "on-failure"
    # The burst has to fit into the interval, or the limit would never be reached.
    assert int(WORKER["RestartSec"]) * int(WORKER["StartLimitBurst"]) < int(WORKER["StartLimitIntervalSec"])


def test_the_watchdog_bears_the_silence_of_an_end() -> None:
    """It is fed twice in its time, and no more once the drain is over."""
    assert (WORKER["Type"], WORKER["NotifyAccess"]) == ("notify", "main")
    assert int(WORKER["WatchdogSec"]) / 2 > ENDING_SECONDS


def test_one_of_the_two_runs() -> None:
    """Starting one stops the other, and waits for that."""
    assert SUPERVISORD["Conflicts"] == "tl-fif-worker.service"
    assert WORKER["Conflicts"] == "tl-fif-supervisord.service"
    assert "tl-fif-worker.service" in SUPERVISORD["After"].split()


def test_nobody_waits_for_the_network() -> None:
    """Nor for cloud-init: the worker wants neither before its model is loaded."""
    for name in ("tl-fif-worker.service", "tl-fif-supervisord.service"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        orders = " ".join(line for line in text.splitlines() if line.startswith(("After=", "Wants=", "Requires=")))
        assert "nvidia-persistenced.service" in orders
        assert "network" not in orders
        assert "cloud" not in orders


def test_without_settings_nothing_starts() -> None:
    """They are written at the first boot, after which that boot starts the unit."""
    for each in (WORKER, SUPERVISORD):
        assert each["ConditionPathExists"] == each["EnvironmentFile"] == "/etc/tl-fif/worker.env"


# Surroundings


def test_nothing_listens_on_the_network() -> None:
    """What supervisorctl asks is a socket that is its user's."""
    assert "inet_http_server" not in CONFIGURATION
    assert CONFIGURATION.get("unix_http_server", "chmod") == "0700"
    assert CONFIGURATION.get("supervisorctl", "serverurl") == f"unix://{CONFIGURATION.get('unix_http_server', 'file')}"


def test_supervisord_stays_in_the_foreground() -> None:
    """As systemd wants it."""
    assert CONFIGURATION.getboolean("supervisord", "nodaemon")


def test_the_unit_sets_what_the_configuration_asks_for() -> None:
    """Each variable, to the place that the other unit names as well."""
    asked = re.findall(r"%\(ENV_(\w+)\)s", (FOLDER / "supervisord.conf").read_text(encoding="utf-8"))
    given = dict(re.findall(r"(TLFIF_\w+)=([^\s\"]+)", SUPERVISORD["Environment"]))

    assert set(asked) <= set(given)
    assert WORKER["ExecStart"] == f"{given['TLFIF_PYTHON']} -m worker"
    assert CONFIGURATION.get(PROGRAM, "command") == "%(ENV_TLFIF_PYTHON)s -m worker"
    assert WORKER["WorkingDirectory"] == given["TLFIF_HOME"]
    for stream, setting in (("stdout", "StandardOutput"), ("stderr", "StandardError")):
        path = CONFIGURATION.get(PROGRAM, f"{stream}_logfile").replace("%(ENV_TLFIF_LOGS)s", given["TLFIF_LOGS"])
        assert WORKER[setting] == f"append:{path}"
    for folder, variable in (("LogsDirectory", "TLFIF_LOGS"), ("RuntimeDirectory", "TLFIF_RUN")):
        assert Path(given[variable]).name == SUPERVISORD[folder]


def test_logs_are_rotated() -> None:
    """A full disk would end the worker."""
    for stream in ("stdout", "stderr"):
        assert CONFIGURATION.get(PROGRAM, f"{stream}_logfile_maxbytes").endswith("MB")
        assert CONFIGURATION.getint(PROGRAM, f"{stream}_logfile_backups") > 0


def test_both_units_confine_the_worker_alike() -> None:
    """Same user, folders, limits and protections."""
    prefixes = (
        *(
            "Limit",
            "Protect",
            "Private",
            "Cache",
            "Logs",
            "Runtime",
            "RestrictA",
            "RestrictN",
            "RestrictR",
            "RestrictS",
        ),
        *("SystemCall", "Lock", "Remove", "UMask", "CPU", "IO"),
    )
    confining = [
        {key: each[key] for key in each if key in WHERE_AND_HOW or key.startswith(prefixes)}
        for each in (WORKER, SUPERVISORD)
    ]

    assert confining[0] == confining[1]
    assert set(confining[0]) >= WHERE_AND_HOW
    assert confining[0]["NoNewPrivileges"] == "yes"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.service")))
def test_no_unit_hides_the_gpu(name: str) -> None:
    """Nor what CUDA needs besides."""
    assert GPU_HIDERS.isdisjoint(unit(name))


@pytest.mark.parametrize("confined", [WORKER, SUPERVISORD], ids=["worker", "supervisord"])
def test_the_worker_can_ask_for_power_off(confined: dict[str, str]) -> None:
    """By a file where it may write, which is watched by what may power off and does not vanish with the worker."""
    watched = Path(unit("tl-fif-halt.path")["PathExists"])

    assert f'"TLFIF_HALT_COMMAND=touch {watched}"' in confined["Environment"]
    assert watched.parent == Path("/run") / confined["RuntimeDirectory"]
    assert confined["RuntimeDirectoryPreserve"] == "yes"
    assert unit("tl-fif-halt.service")["ExecStart"].endswith(" poweroff")


# systemd's own word


def exposure(path: Path) -> float:
    """Return what a unit exposes of the machine, by systemd's reckoning, and print it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed; it comes with systemd")
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
    print(said)  # noqa: T201 - seen with -s, and when it fails
    return float(re.findall(r": (\d+\.\d)", said)[0])


@pytest.mark.parametrize("name", ["tl-fif-worker.service", "tl-fif-supervisord.service"])
def test_the_worker_s_units_expose_little(name: str, tmp_path: Path) -> None:
    """A line less, and it is more."""
    assert exposure(FOLDER / name) <= EXPOSURE
    weaker = tmp_path / name
    weaker.write_text((FOLDER / name).read_text(encoding="utf-8").replace("SystemCallFilter=", "#"))
    assert exposure(weaker) > EXPOSURE


def verdict(folder: Path, right: str = "", wrong: str = "") -> list[str]:
    """Return what systemd says about the units, with an interpreter that is there and `right` made `wrong`."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed; it comes with systemd")
    for path in [*FOLDER.glob("*.service"), *FOLDER.glob("*.path")]:
        text = path.read_text(encoding="utf-8").replace("/opt/tl-fif/.venv/bin", str(Path(sys.executable).parent))
        (folder / path.name).write_text(text.replace(right, wrong) if right else text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, folder.iterdir())]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # It also talks about units of this machine.
    return [line for line in done.stdout.splitlines() if "tl-fif-" in line]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Every setting and every command."""
    assert verdict(tmp_path) == []


def test_systemd_would_refuse(tmp_path: Path) -> None:
    """The check can fail."""
    assert "RestartSeconds" in "".join(verdict(tmp_path, "RestartSec=", "RestartSeconds="))
