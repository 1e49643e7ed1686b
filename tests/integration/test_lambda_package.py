"""The Lambda packages: what is in them, and the functions in the real runtime client under Python 3.12."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from local.lambda_runtime import FunctionFailed, LambdaFunction
from router_lambda.job import QUEUE_OPEN, QUEUE_READY, Job, job_key, worker_key
from tests.integration.lambda_world import BUILDER, REPOSITORY, builder, runtime
from tests.router_samples import JOB_ID, event
from tests.tokens import AUDIENCE, ISSUER, SUB, jwk_set, signer

MOST_BYTES = 6_500_000
MACHINES = {"x86_64": 62, "arm64": 183}  # e_machine in <elf.h>: EM_X86_64, EM_AARCH64
LAMBDA_GLIBC = 34  # Amazon Linux 2023 has glibc 2.34

# Prints what is imported from where, after every module of ours and the RS256 verification of python-jose.
IMPORT_ALL = """
import json, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import router_lambda
for module in pkgutil.iter_modules(router_lambda.__path__):
    __import__(f"router_lambda.{module.name}")
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
known = sys.stdlib_module_names
print(json.dumps({name: file for name, file in files.items() if file and name.split(".")[0] not in known}))
"""


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the package is built from."""
    runtime()  # skips, where nothing can be built
    folder = tmp_path_factory.mktemp("sources")
    for name in ("router_lambda", ".ci"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("node_modules"))
    return folder


def build(sources: Path, **environment: str) -> str:
    """Build the packages of a copy from inside it, into its `dist`, and return what was printed."""
    command = [sys.executable, str(BUILDER.relative_to(REPOSITORY))]
    return subprocess.run(
        command,
        cwd=sources,
        env=os.environ | {"SOURCE_DATE_EPOCH": ""} | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.fixture(scope="session")
def packages(sources: Path) -> Path:
    """Return the folder with both zips."""
    build(sources, PYTHONHASHSEED="1")
    return sources / "dist"


@pytest.fixture(params=MACHINES)
def package(request: pytest.FixtureRequest, packages: Path) -> Iterator[zipfile.ZipFile]:
    """Yield one zip, open."""
    with zipfile.ZipFile(packages / f"tl-fif-router-{request.param}.zip") as archive:
        yield archive


@pytest.fixture(scope="session")
def unpacked(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package for this machine's processor, unpacked."""
    folder = tmp_path_factory.mktemp("task")
    architecture = "arm64" if os.uname().machine in {"aarch64", "arm64"} else "x86_64"
    with zipfile.ZipFile(packages / f"tl-fif-router-{architecture}.zip") as archive:
        archive.extractall(folder)
    return folder


Start = Callable[..., LambdaFunction]


@pytest.fixture
def start(unpacked: Path, tmp_path: Path) -> Start:
    """Return what makes a function of a handler and an environment that is added to Lambda's own."""

    def make(handler: str, **environment: str) -> LambdaFunction:
        given = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
        given["AWS_DEFAULT_REGION"] = given["AWS_REGION"]  # Lambda sets both, and boto3 reads this one
        given["AWS_ENDPOINT_URL_EC2"] = "http://127.0.0.1:1"  # where nobody answers
        return LambdaFunction(
            runtime(), unpacked, f"router_lambda.{handler}.handler", given | environment, tmp_path / "function.log"
        )

    return make


# The build


def test_two_builds_are_the_same_bytes(sources: Path, packages: Path, tmp_path: Path) -> None:
    """Neither the folder, nor the time, nor the hash seed, nor the file times get into a package."""
    elsewhere = shutil.copytree(
        sources, tmp_path / "some" / "where" / "else", ignore=shutil.ignore_patterns("dist"), copy_function=shutil.copy
    )

    printed = build(elsewhere, PYTHONHASHSEED="2", PYTHONOPTIMIZE="1", TZ="Asia/Tokyo")

    for line, architecture in zip(printed.splitlines(), MACHINES, strict=True):
        name = f"tl-fif-router-{architecture}.zip"
        assert (elsewhere / "dist" / name).read_bytes() == (packages / name).read_bytes()
        assert re.fullmatch(rf"dist/{name}  [0-9,]+ bytes  sha256 [0-9a-f]{{64}}", line)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [("1790000000", (2026, 9, 21, 14, 13, 20)), ("0", (1980, 1, 1, 0, 0, 0)), ("", (1980, 1, 1, 0, 0, 0))],
)
def test_a_build_takes_its_time_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str, expected: tuple[int, ...]
) -> None:
    """SOURCE_DATE_EPOCH, where it is set, stands at every entry; a zip knows no time before 1980."""
    monkeypatch.setattr(builder(), "download", lambda *_: [])
    monkeypatch.setattr(builder(), "fill", lambda folder, *_: (folder / "file").touch())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)

    with zipfile.ZipFile(builder().build("arm64", Path("python"), tmp_path)) as archive:
        assert [entry.date_time for entry in archive.infolist()] == [expected]


def test_a_time_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to write it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(builder().PackagingFailed, match="whole Unix seconds; it is today"):
        builder().build("arm64", Path("python"), tmp_path)


def test_a_file_that_is_not_the_lock_s_is_refused(sources: Path, tmp_path: Path) -> None:
    """One wrong digit in one hash, and nothing is built."""
    changed = shutil.copytree(sources, tmp_path / "changed", ignore=shutil.ignore_patterns("dist"))
    lock = changed / ".ci" / "lambda.lock"
    lock.write_text(
        re.sub(
            r"(^redis==.*)(.)$",
            lambda found: found[1] + f"{(int(found[2], 16) + 1) % 16:x}",
            lock.read_text(),
            flags=re.MULTILINE,
        )
    )

    done = subprocess.run(
        [sys.executable, str(BUILDER.relative_to(REPOSITORY))], cwd=changed, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "lambda-package: pip could not fetch the wheels for x86_64" in done.stderr
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not list((changed / "dist").glob("*.zip"))


def test_a_package_says_its_version(package: zipfile.ZipFile) -> None:
    """In the description of the API; so that two versions are never the same bytes."""
    described = package.read("router_lambda/openapi.yaml").decode()
    version = (REPOSITORY / "VERSION").read_text(encoding="utf-8").strip()

    assert f"\n  version: {version}\n" in described


def test_a_package_is_small_enough(package: zipfile.ZipFile) -> None:
    """Lambda fetches it at every cold start."""
    assert package.filename is not None
    assert Path(package.filename).stat().st_size <= MOST_BYTES


def test_entries_are_plain_readable_files_in_order(package: zipfile.ZipFile) -> None:
    """Lambda's user is not the owner of the files."""
    entries = package.infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(names, key=Path)
    assert {(entry.external_attr >> 16, entry.create_system, entry.date_time) for entry in entries} == {
        (0o100644, 3, (1980, 1, 1, 0, 0, 0))
    }


# What is in them


def test_a_package_holds_the_router_and_its_dependencies_alone(package: zipfile.ZipFile) -> None:
    """All of the lock and no more: no boto3, which the runtime brings; and no tests."""
    top = {name.split("/")[0] for name in package.namelist()}
    pins = re.findall(r"^([a-z-]+)==(\S+)", (REPOSITORY / ".ci" / "lambda.lock").read_text(), re.MULTILINE)
    locked = {f"{name.replace('-', '_')}-{version}.dist-info" for name, version in pins}

    assert len(locked) == 4
    extension = {name for name in top if name.startswith("_cffi_backend.cpython-312-")}
    assert len(extension) == 1
    assert top - extension == locked | {"redis", "jose", "cryptography", "router_lambda"}
    assert {Path(name).suffix for name in package.namelist()} <= {".py", ".pyc", ".so", ".yaml", "", ".APACHE", ".BSD"}
    assert not [name for name in package.namelist() if "/tests/" in name]


def test_every_dependency_comes_with_its_licence(package: zipfile.ZipFile) -> None:
    """Whoever hands on the package hands on the terms as well."""
    names = package.namelist()
    for folder in {name.split("/")[0] for name in names if ".dist-info/" in name}:
        assert f"{folder}/METADATA" in names
        assert any("LICEN" in name.removeprefix(folder) for name in names if name.startswith(f"{folder}/"))


def test_the_router_is_whole(package: zipfile.ZipFile, sources: Path) -> None:
    """Every module as source and as bytecode, and the description of the API."""
    modules = {path.stem for path in (sources / "router_lambda").glob("*.py")}
    expected = {f"router_lambda/{name}.py" for name in modules}
    expected |= {f"router_lambda/__pycache__/{name}.cpython-312.pyc" for name in modules}

    assert {name for name in package.namelist() if name.startswith("router_lambda/")} == expected | {
        "router_lambda/openapi.yaml"
    }


def test_all_code_is_bytecode_that_is_never_checked(package: zipfile.ZipFile) -> None:
    """Lambda can write none: what came without would be compiled at every cold start."""
    compiled = [name for name in package.namelist() if name.endswith(".pyc")]
    sources = [name for name in package.namelist() if name.endswith(".py")]

    assert all(name.startswith("router_lambda/") for name in sources)
    assert len(compiled) > 150
    for name in compiled:
        content = package.read(name)
        # Magic number of CPython 3.12, then the flags: hash-based, not to be checked (PEP 552).
        assert struct.unpack("<HH", content[:4])[0] == 3531, name
        assert struct.unpack("<I", content[4:8]) == (1,), name
        source = name.replace("__pycache__/", "").removesuffix("c").replace(".cpython-312", "")
        assert len(content) < 200 or f"/var/task/{source}".encode() in content, name


def test_extension_modules_fit_the_processor_and_lambda_s_glibc(package: zipfile.ZipFile) -> None:
    """A wheel for another machine would be found out by the first request only."""
    assert package.filename is not None
    architecture = Path(package.filename).stem.removeprefix("tl-fif-router-")
    extensions = [name for name in package.namelist() if name.endswith(".so")]

    assert len(extensions) >= 2
    for name in extensions:
        content = package.read(name)
        assert content[:4] == b"\x7fELF"
        assert struct.unpack("<H", content[18:20]) == (MACHINES[architecture],)
        assert max(int(found) for found in re.findall(rb"GLIBC_2\.(\d+)", content)) <= LAMBDA_GLIBC


def test_everything_is_imported_from_the_package_or_the_standard_library(unpacked: Path) -> None:
    """Nothing that was left out is missed, boto3 included."""
    command = [str(runtime().python), "-I", "-S", "-B", "-c", IMPORT_ALL, str(unpacked)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files: dict[str, str] = json.loads(printed)

    assert {name.split(".")[0] for name in files} - {"__main__"} <= {
        *("router_lambda", "redis", "jose", "cryptography", "_cffi_backend"),
    }
    assert all(Path(file).is_relative_to(unpacked) for file in files.values())
    assert {"router_lambda.handler", "router_lambda.authorizer", "jose.jwk", "redis.client"} <= files.keys()


# The functions in the runtime client


def test_the_router_answers_a_ping(start: Start) -> None:
    """The package is imported and called as Lambda does it."""
    settings = {"TLFIF_REDIS_URL": "redis://127.0.0.1:1/0", "TLFIF_BUCKET": "tl-fif"}
    with start("handler", **settings, TLFIF_PING_CIDRS="127.0.0.1/32") as function:
        answer = function.invoke(event("GET", "/ping", authorizer=None))

    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"status": "ok"})


def test_the_router_queues_jobs_over_one_connection(start: Start, redis_url: str) -> None:
    """202 and the job in Redis; what the first invocation built serves the second."""
    with (
        closing(redis.Redis.from_url(redis_url)) as client,
        start("handler", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function,
    ):
        client.set(worker_key("w"), "{}", ex=60)
        first = function.invoke(event("POST", "/infer", '{"prompt": "é"}'))
        connections = client.info("stats")["total_connections_received"]
        second = function.invoke(event("POST", "/infer", '{"prompt": "b"}'))

        ids = [json.loads(answer["body"])["id"] for answer in (first, second)]
        assert [answer["statusCode"] for answer in (first, second)] == [202, 202]
        assert client.lrange(QUEUE_READY, 0, -1) == [job_id.encode() for job_id in ids]
        payload = client.get(job_key(ids[0]))
        assert isinstance(payload, bytes)
        assert Job.from_json(payload).prompt == "é"
        assert client.info("stats")["total_connections_received"] == connections


def test_the_router_finds_the_sdk_of_the_runtime(start: Start, redis_url: str) -> None:
    """With the GPU asleep it asks EC2, which cannot be reached here."""
    with start("handler", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function:
        answer = function.invoke(event("POST", "/infer", '{"prompt": "a"}'))

    assert answer["statusCode"] == 503
    assert "EC2" in json.loads(answer["body"])["detail"]


def test_missing_settings_are_named(start: Start) -> None:
    """The function's log says what to set, all at once."""
    with (
        start("handler") as function,
        pytest.raises(FunctionFailed, match=r"TLFIF_BUCKET.*TLFIF_REDIS_URL|TLFIF_REDIS_URL.*TLFIF_BUCKET") as failed,
    ):
        function.invoke(event("GET", "/ping"))
    assert failed.value.kind == "RouterConfigError"


def test_the_health_function_pings_redis(start: Start, redis_url: str) -> None:
    """A handler of its own in the same package."""
    with start("queue_health", TLFIF_REDIS_URL=redis_url, TLFIF_PING_CIDRS="127.0.0.1/32") as function:
        answer = function.invoke(event("GET", "/queue-health", authorizer=None))

    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["redis"] == "ok"


@pytest.fixture
def jwks_url(tmp_path: Path) -> Iterator[str]:
    """Yield the address of the test issuer's keys."""
    (tmp_path / "jwks.json").write_bytes(jwk_set(signer()))

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(tmp_path))) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()
        serving.join()


def test_the_authorizer_lets_a_good_token_in_and_no_other(start: Start, jwks_url: str) -> None:
    """RS256 is verified by what the package holds, in simple responses."""
    exp = int(time.time()) + 600
    good, old = signer().access(exp=exp), signer().access(exp=exp - 3_600)
    settings = {"TLFIF_JWKS_URL": jwks_url, "TLFIF_JWT_ISSUER": ISSUER, "TLFIF_JWT_AUDIENCE": AUDIENCE}
    with start("authorizer", **settings) as function:
        answers = [
            function.invoke(event("POST", "/infer", headers={"authorization": f"Bearer {token}"}))
            for token in (good, old, "a.b.c")
        ]

    assert answers[0] == {"isAuthorized": True, "context": {"sub": SUB, "exp": exp}}
    assert answers[1:] == [{"isAuthorized": False}, {"isAuthorized": False}]


# The samples of docs/sam


def sample(name: str) -> dict[str, Any]:
    """Return an event of docs/sam/events."""
    content = (REPOSITORY / "docs" / "sam" / "events" / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(content))


@pytest.mark.parametrize(
    ("name", "handler", "status"),
    [
        *(("infer", "handler", 202), ("stop", "handler", 503), ("ping", "handler", 200), ("options", "handler", 204)),
        *(("status", "handler", 200), ("queue-health", "queue_health", 200)),
    ],
)
def test_a_sample_event_is_answered(start: Start, redis_url: str, name: str, handler: str, status: int) -> None:
    """As docs/lambda.md has it, with a worker alive; to stop it takes EC2, which nobody answers for here."""
    settings = {"TLFIF_REDIS_URL": redis_url, "TLFIF_BUCKET": "tl-fif", "TLFIF_PING_CIDRS": "127.0.0.0/8"}
    with closing(redis.Redis.from_url(redis_url)) as client, start(handler, **settings) as function:
        client.set(worker_key("w"), "{}", ex=60)
        assert function.invoke(sample(name))["statusCode"] == status


def test_the_authorizer_s_sample_holds_no_token(start: Start) -> None:
    """It is refused before any key is fetched."""
    settings = {"TLFIF_JWKS_URL": "http://127.0.0.1:1/", "TLFIF_JWT_ISSUER": ISSUER, "TLFIF_JWT_AUDIENCE": AUDIENCE}
    with start("authorizer", **settings) as function:
        assert function.invoke(sample("authorizer")) == {"isAuthorized": False}


@pytest.mark.parametrize("name", ["instance-stopped", "every-minute"])
def test_the_waker_finds_nothing_to_do(start: Start, redis_url: str, name: str) -> None:
    """Whoever calls it; EC2, which nobody answers for here, is not asked."""
    with start("waker", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function:
        assert function.invoke(sample(name)) == {"outcome": "nothing waits"}


def test_the_waker_gives_up_before_lambda_does(start: Start, redis_url: str) -> None:
    """It is told how much time is left; the error is not one of Lambda's."""
    with (
        closing(redis.Redis.from_url(redis_url)) as client,
        start("waker", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function,
    ):
        client.set(job_key(JOB_ID), "{}")
        client.zadd(QUEUE_OPEN, {JOB_ID: time.time()})
        assert function.invoke(sample("every-minute")) == {"outcome": "refused: EndpointConnectionError"}


def test_the_reaper_cannot_do_without_ec2(start: Start, redis_url: str) -> None:
    """Which Lambda counts as an error, and the schedule tries again."""
    with (
        start("reaper", TLFIF_REDIS_URL=redis_url) as function,
        pytest.raises(FunctionFailed, match="EC2 cannot be reached") as failed,
    ):
        function.invoke(sample("every-minute"))
    assert failed.value.kind == "Ec2Unavailable"
