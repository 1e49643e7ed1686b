"""What the Lambdas read from their environment, and what they say of a wrong one."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from router_lambda.settings import (
    HealthSettings,
    JwtSettings,
    ReaperSettings,
    RouterConfigError,
    RouterSettings,
)

HEALTH = {"TLFIF_REDIS_URL": "redis://cache:6379/0"}
ROUTER = HEALTH | {"TLFIF_BUCKET": "tl-fif"}
JWT = {
    "TLFIF_JWKS_URL": "https://issuer.test/.well-known/jwks.json",
    "TLFIF_JWT_ISSUER": "https://issuer.test",
    "TLFIF_JWT_AUDIENCE": "app-client-1",
}
LOCAL = {"TL_DISABLE_JWT": "1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333"}

Part = type[HealthSettings] | type[JwtSettings] | type[ReaperSettings] | type[RouterSettings]


def problems(part: Part, environment: dict[str, str]) -> list[str]:
    """Return what is said of an environment that is refused; the message holds all of it."""
    with pytest.raises(RouterConfigError, match=r"^in the function's environment: ") as refused:
        part.from_environment(environment)
    assert all(problem in str(refused.value) for problem in refused.value.problems)
    return refused.value.problems


# The router


def test_two_variables_are_enough() -> None:
    """The rest has defaults; other variables are nobody's business."""
    settings = RouterSettings.from_environment(ROUTER | {"PATH": "/bin", "TLFIF_MODEL": "x"})

    health = HealthSettings("redis://cache:6379/0", (ip_network("10.20.0.0/22"),))
    assert settings == RouterSettings(health, "tl-fif", ("env", "tinyllama"), jwt=None, max_gpus=1)


def test_each_setting_comes_from_its_variable() -> None:
    """All of them set."""
    others = {"TLFIF_GPU_TAG": "role=gpu", "TLFIF_PING_CIDRS": "192.0.2.0/24", "TLFIF_MAX_GPUS": "3"}
    settings = RouterSettings.from_environment(ROUTER | JWT | others | {"TLFIF_BUDGET_EUR": "20"})

    assert settings.health == HealthSettings("redis://cache:6379/0", (ip_network("192.0.2.0/24"),))
    assert settings.gpu_tag == ("role", "gpu")
    assert settings.max_gpus == 3
    assert settings.budget_eur == 20.0
    assert settings.jwt == JwtSettings(JWT["TLFIF_JWKS_URL"], "https://issuer.test", "app-client-1", disabled=False)


@pytest.mark.parametrize("environment", [{}, dict.fromkeys(ROUTER, "")])
def test_missing_settings_are_named_at_once(environment: dict[str, str]) -> None:
    """Empty is missing: Terraform writes an empty string where a value was forgotten."""
    assert sorted(problems(RouterSettings, environment)) == ["set TLFIF_BUCKET", "set TLFIF_REDIS_URL"]


@pytest.mark.parametrize("name", ROUTER)
def test_one_that_is_missing_is_named_alone(name: str) -> None:
    """Those that are set are not mentioned."""
    assert problems(RouterSettings, {key: value for key, value in ROUTER.items() if key != name}) == [f"set {name}"]


def test_all_that_is_wrong_is_named_at_once() -> None:
    """Missing and wrong ones of every part, so that one deployment mends them."""
    environment = {"TLFIF_GPU_TAG": "gpu", "TLFIF_PING_CIDRS": "a,10.0.0.0/8,b", "TLFIF_JWKS_URL": "http://issuer.test"}

    said = problems(RouterSettings, environment)
    named = ("BUCKET", "REDIS_URL", "GPU_TAG", "PING_CIDRS: 'a'", "PING_CIDRS: 'b'", "JWKS_URL", "ISSUER", "AUDIENCE")
    assert len(said) == len(named)
    assert all(sum(name in problem for problem in said) == 1 for name in named)


def test_no_secret_is_in_the_message() -> None:
    """A Redis URL may hold a password."""
    environment = {"TLFIF_REDIS_URL": "redis://:hunter2@cache", "TLFIF_JWKS_URL": "http://u:hunter2@issuer.test"}
    assert "hunter2" not in " ".join(problems(RouterSettings, environment))


@pytest.mark.parametrize(
    ("tag", "read"),
    [
        *(("", ("env", "tinyllama")), ("env=tinyllama", ("env", "tinyllama")), ("a=b", ("a", "b"))),
        *(
            ("a=b=c", ("a", "b=c")),
            ("a==", ("a", "=")),
            ("tl:fif/gpu=a b", ("tl:fif/gpu", "a b")),
            ("é=😀", ("é", "😀")),
        ),
    ],
)
def test_the_tag_is_split_at_the_first_equals_sign(tag: str, read: tuple[str, str]) -> None:
    """EC2 allows the sign in a value; empty is the default."""
    for part in (RouterSettings, ReaperSettings):
        assert part.from_environment(ROUTER | {"TLFIF_GPU_TAG": tag}).gpu_tag == read


@pytest.mark.parametrize("tag", ["env", "env=", "=tinyllama", "=", "==", " ", "env:tinyllama"])
def test_a_tag_without_name_or_value_is_refused(tag: str) -> None:
    """With the form that is wanted: a filter by half a tag would find a stranger's instance or none."""
    for part in (RouterSettings, ReaperSettings):
        assert problems(part, ROUTER | {"TLFIF_GPU_TAG": tag}) == [
            "write TLFIF_GPU_TAG as name=value, like env=tinyllama"
        ]


@pytest.mark.parametrize(("text", "number"), [("", 1), ("1", 1), ("2", 2), ("16", 16), ("016", 16)])
def test_there_may_be_more_gpus_than_one(text: str, number: int) -> None:
    """One if nothing is said: each costs as much as the first."""
    assert RouterSettings.from_environment(ROUTER | {"TLFIF_MAX_GPUS": text}).max_gpus == number


@pytest.mark.parametrize("text", ["0", "17", "-1", "+2", "1.0", "1e0", " 2", "x", "\u0662", "9" * 5_000])
def test_any_other_number_of_gpus_is_refused(text: str) -> None:
    """None is what `/stop` is for, and more than sixteen are a slip of the pen."""
    assert problems(RouterSettings, ROUTER | {"TLFIF_MAX_GPUS": text}) == [
        "set TLFIF_MAX_GPUS to a whole number from 1 to 16"
    ]


@pytest.mark.parametrize(("text", "eur"), [("20", 20.0), ("19.50", 19.5), ("0.01", 0.01), ("10000", 10_000.0)])
def test_there_may_be_a_budget(text: str, eur: float) -> None:
    """In EUR a month; the router may do without one, and then nothing is checked."""
    assert RouterSettings.from_environment(ROUTER | {"TLFIF_BUDGET_EUR": text}).budget_eur == eur
    assert RouterSettings.from_environment(ROUTER | {"TLFIF_BUDGET_EUR": ""}).budget_eur is None


@pytest.mark.parametrize(
    "text", ["0", "0.0", "-1", "+20", "10000.01", "10001", "20,5", "2e1", "nan", "inf", "€20", " 20", "\u0662\u0660"]
)
def test_any_other_budget_is_refused(text: str) -> None:
    """A cap that is read wrongly is none, or stops everything."""
    said = ["set TLFIF_BUDGET_EUR to a number that is more than 0 and at most 10000, like 12.5"]
    assert problems(RouterSettings, ROUTER | {"TLFIF_BUDGET_EUR": text}) == said


# The reaper


def test_the_reaper_needs_the_queue_alone() -> None:
    """It has no bucket, lets nobody in, and what is wrong with those settings is not its business."""
    environment = HEALTH | {"TLFIF_MAX_SESSION_MINUTES": "", "TLFIF_PING_CIDRS": "x", "TL_DISABLE_JWT": "1"}
    settings = ReaperSettings.from_environment(environment)

    assert settings == ReaperSettings("redis://cache:6379/0", ("env", "tinyllama"), 240)


@pytest.mark.parametrize(("text", "minutes"), [("10", 10), ("90", 90), ("1440", 1_440), ("0240", 240)])
def test_the_longest_session_is_in_minutes(text: str, minutes: int) -> None:
    """From longer than a boot takes to a day."""
    settings = ReaperSettings.from_environment(HEALTH | {"TLFIF_MAX_SESSION_MINUTES": text})
    assert settings.max_session_minutes == minutes


@pytest.mark.parametrize(
    "text",
    ["0", "9", "1441", "-10", "+90", "9e1", "90.0", "1_440", " 90", "90 ", "90m", "x", "\u0669\u0660", "9" * 5_000],
)
def test_any_other_session_is_refused(text: str) -> None:
    """None at all is none of the choices: an instance that nobody stops is what the reaper is for."""
    assert problems(ReaperSettings, HEALTH | {"TLFIF_MAX_SESSION_MINUTES": text}) == [
        "set TLFIF_MAX_SESSION_MINUTES to a whole number from 10 to 1440"
    ]


def test_all_that_is_wrong_for_the_reaper_is_named_at_once() -> None:
    """So that one deployment mends it."""
    wrong = {"TLFIF_GPU_TAG": "gpu", "TLFIF_MAX_SESSION_MINUTES": "x"}
    for url, said in (("", "set TLFIF_REDIS_URL"), ("cache", "write TLFIF_REDIS_URL like redis://host:6379/0")):
        found = problems(ReaperSettings, wrong | {"TLFIF_REDIS_URL": url})
        assert found[0] == said
        assert [name in each for name, each in zip(("GPU_TAG", "MINUTES"), found[1:], strict=True)] == [True, True]


# Health


@pytest.mark.parametrize(
    ("cidrs", "networks"),
    [
        *(("", ["10.20.0.0/22"]), ("0.0.0.0/0", ["0.0.0.0/0"]), ("192.0.2.7", ["192.0.2.7/32"])),
        *(("2001:db8::/32", ["2001:db8::/32"]), ("::1", ["::1/128"]), ("2001:DB8::/32", ["2001:db8::/32"])),
        *(("10.0.0.0/255.0.0.0", ["10.0.0.0/8"]), ("10.0.0.0/8,::/0", ["10.0.0.0/8", "::/0"])),
        *((" 10.0.0.0/8 , 192.0.2.0/24\n", ["10.0.0.0/8", "192.0.2.0/24"]),),
    ],
)
def test_networks_are_read_in_order(cidrs: str, networks: list[str]) -> None:
    """Both families, blanks around them, single addresses; empty is the VPC."""
    settings = HealthSettings.from_environment(HEALTH | {"TLFIF_PING_CIDRS": cidrs})
    assert settings.ping_cidrs == tuple(map(ip_network, networks))


@pytest.mark.parametrize(
    "cidr",
    [
        *(
            "10.0.0.1/8",
            "2001:db8::1/32",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "/8",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.0/-1",
        ),
        *(
            "localhost",
            "any",
            "*",
            "[::1]",
            "10.0.0.0/8/8",
            "10.0.0.0 - 10.0.0.9",
            "10.0.0.0 192.0.2.0",
            "\u0660.0.0.0",
        ),
    ],
)
def test_a_network_that_is_none_is_named(cidr: str) -> None:
    """Host bits, lengths, rubbish: each alone, the good one beside it not."""
    (problem,) = problems(HealthSettings, HEALTH | {"TLFIF_PING_CIDRS": f"10.0.0.0/8, {cidr}"})
    assert problem.startswith("mend TLFIF_PING_CIDRS: ")
    assert cidr in problem


@pytest.mark.parametrize("cidrs", [",", "10.0.0.0/8,", ",10.0.0.0/8", "10.0.0.0/8,,::/0", " "])
def test_an_empty_place_in_the_list_is_refused(cidrs: str) -> None:
    """Somebody forgot a network there; who must ask for health would find out too late."""
    assert all(
        "TLFIF_PING_CIDRS" in problem for problem in problems(HealthSettings, HEALTH | {"TLFIF_PING_CIDRS": cidrs})
    )


@pytest.mark.parametrize("url", ["cache", "cache:6379", "http://cache:6379", "//cache", "redis:", " ", "redis://["])
def test_an_address_of_no_redis_is_named(url: str) -> None:
    """Before the client raises an error of its own, which names no variable."""
    (problem,) = problems(HealthSettings, {"TLFIF_REDIS_URL": url})
    assert "TLFIF_REDIS_URL" in problem


@pytest.mark.parametrize("url", ["redis://cache", "rediss://:secret@cache:6379/0", "redis://[2001:db8::1]:6379/0"])
def test_an_address_of_a_redis_is_taken(url: str) -> None:
    """With TLS, password and database or without."""
    assert HealthSettings.from_environment({"TLFIF_REDIS_URL": url}).redis_url == url


def test_health_takes_no_more_than_it_needs() -> None:
    """The Lambda for `/queue-health` has no bucket, and what is wrong with the others is not its business."""
    environment = HEALTH | {"TLFIF_GPU_TAG": "gpu", "TLFIF_JWKS_URL": "x", "TL_DISABLE_JWT": "1"}
    assert HealthSettings.from_environment(environment).redis_url == HEALTH["TLFIF_REDIS_URL"]
    assert problems(HealthSettings, {"TLFIF_BUCKET": "tl-fif"}) == ["set TLFIF_REDIS_URL"]


# Tokens


@pytest.mark.parametrize("name", JWT)
@pytest.mark.parametrize("part", [JwtSettings, RouterSettings])
def test_the_settings_for_tokens_come_together(part: Part, name: str) -> None:
    """One alone asks for the other two; two of them for the third. Half a check lets the wrong ones in."""
    missing = [f"set {other}" for other in JWT if other != name]
    assert problems(part, ROUTER | {name: JWT[name]}) == missing
    assert problems(part, ROUTER | JWT | {name: ""}) == [f"set {name}"]


def test_the_authorizer_cannot_do_without() -> None:
    """Where tokens are all there is, none of the three is optional."""
    assert problems(JwtSettings, {}) == [f"set {name}" for name in JWT]


@pytest.mark.parametrize(
    "url",
    [
        *("https://issuer.test/keys", "HTTPS://issuer.test/keys", "https://[2001:db8::1]:8443/keys?pool=1"),
        *(
            "http://localhost:5000/keys",
            "http://127.0.0.1:5000/keys",
            "http://[::1]:5000/keys",
            "http://LOCALHOST/keys",
        ),
    ],
)
def test_keys_come_by_tls_or_from_this_machine(url: str) -> None:
    """`http` is for the local stack."""
    assert JwtSettings.from_environment(JWT | {"TLFIF_JWKS_URL": url}).jwks_url == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://issuer.test/keys",
            "http://localhost.evil/keys",
            "http://127.0.0.1@evil/keys",
            "http://127.0.0.1.evil/",
        ),
        *(
            "http://evil#@localhost/",
            "http://evil/?@127.0.0.1",
            "http://10.20.0.1/keys",
            "http:///keys",
            "http:localhost",
        ),
        *("//localhost/keys", "localhost", "issuer.test/keys", "ftp://localhost/keys", "file:///keys", "x", " "),
        *(
            "https://",
            "https:///keys",
            "https:issuer.test",
            "https://:443/keys",
            "https://[",
            "https://[::1",
            "http://[",
        ),
    ],
)
def test_keys_by_any_other_way_are_refused(url: str) -> None:
    """Whoever can change them on their way gets in; and an address that is none is said to be wrong."""
    (problem,) = problems(JwtSettings, JWT | {"TLFIF_JWKS_URL": url})
    assert "TLFIF_JWKS_URL" in problem
    assert "https" in problem


# TL_DISABLE_JWT


@pytest.mark.parametrize(
    "endpoints",
    [
        *(
            {"AWS_ENDPOINT_URL_S3": url}
            for url in ("http://127.0.0.1:8333", "http://localhost:8333", "http://[::1]:8333")
        ),
        *({"AWS_ENDPOINT_URL": "http://127.0.0.1:5000"}, {"AWS_ENDPOINT_URL": "https://localhost"}),
        {"AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL": "http://127.0.0.1:5000"},
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333", "AWS_ENDPOINT_URL": "https://s3.eu-central-1.amazonaws.com"},
    ],
)
@pytest.mark.parametrize("jwt", [{}, JWT, {"TLFIF_JWKS_URL": "x"}])
def test_the_local_stack_may_do_without_tokens(endpoints: dict[str, str], jwt: dict[str, str]) -> None:
    """Where the replies go to this machine; the other settings for tokens then do not matter."""
    environment = {"TL_DISABLE_JWT": "1"} | endpoints | jwt

    assert JwtSettings.from_environment(environment) == JwtSettings("", "", "", disabled=True)
    assert RouterSettings.from_environment(ROUTER | environment).jwt == JwtSettings("", "", "", disabled=True)


@pytest.mark.parametrize(
    "changes",
    [
        *({"AWS_LAMBDA_FUNCTION_NAME": name} for name in ("router", "")),
        *(
            {"AWS_ENDPOINT_URL_S3": url}
            for url in ("", "https://s3.amazonaws.com", "http://10.20.0.1", "http://0.0.0.0")
        ),
        *({"AWS_ENDPOINT_URL_S3": url} for url in ("http://localhost.evil", "http://localhost@evil", "localhost:8333")),
        *({"AWS_ENDPOINT_URL_S3": url} for url in ("http://[", "127.0.0.1", "/127.0.0.1", "x", " ")),
        {"AWS_ENDPOINT_URL_S3": "https://s3.amazonaws.com", "AWS_ENDPOINT_URL": "http://127.0.0.1:5000"},
    ],
)
@pytest.mark.parametrize("jwt", [{}, JWT])
def test_nobody_else_may(changes: dict[str, str], jwt: dict[str, str]) -> None:
    """In a Lambda or with real buckets it is an error, never a door left open, nor silently ignored."""
    for part in (JwtSettings, RouterSettings):
        (problem,) = problems(part, ROUTER | jwt | LOCAL | changes)
        assert problem.startswith("unset TL_DISABLE_JWT: it lets everybody in")


def test_a_refusal_comes_with_the_others() -> None:
    """It does not hide what else is to be mended."""
    said = problems(RouterSettings, {"TL_DISABLE_JWT": "1"})
    assert [problem[:20] for problem in said] == ["set TLFIF_BUCKET", "set TLFIF_REDIS_URL", "unset TL_DISABLE_JWT"]


@pytest.mark.parametrize("value", ["", "0", "2", "01", "1 ", " 1", "true", "yes", "on", "\uff11", "false"])
def test_any_other_value_does_nothing(value: str) -> None:
    """Tokens are checked by the other settings, as if the flag were not there."""
    for elsewhere in ({}, {"AWS_LAMBDA_FUNCTION_NAME": "router"}):
        environment = ROUTER | LOCAL | {"TL_DISABLE_JWT": value} | elsewhere
        assert JwtSettings.from_environment(environment | JWT).disabled is False
        assert problems(JwtSettings, environment) == [f"set {name}" for name in JWT]
        assert RouterSettings.from_environment(environment).jwt is None
