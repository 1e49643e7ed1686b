"""From sources to a published image: decides whether to bake, starts a build, waits for it, and judges the outcome.

Everything that it works with is given to it: no clock, no signal and no program of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar, Final

from botocore.exceptions import BotoCoreError, ClientError

from terraform.build_cost import BUILD_TAG, USD_PER_EUR, ask_cost_explorer, cost_eur, machine_hours
from terraform.builds import RUNNING, Build, Builds, Names, Published
from terraform.plan import Unpriced
from terraform.prices import Prices

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_STOPPED: Final = 3
EXIT_TOO_DEAR: Final = 4

_POLL_SECONDS: Final = 30.0
_MOST_FAILED_LOOKS: Final = 10
"""Looks at a build that may fail one after the other, which is five minutes, before nobody waits any more."""

_LOOKS_AT_PARAMETER: Final = 4
"""How often the SSM parameter is read before it counts as not set."""


class NotBaked(Exception):
    """There is no new image, or not as it should be; the message says what to do."""

    status: ClassVar[int] = EXIT_FAILED


class BadSettings(NotBaked):
    """Something is missing before anything can begin."""

    status = EXIT_SETTINGS


class Stopped(NotBaked):
    """Somebody asked to stop; a build that was started goes on."""

    status = EXIT_STOPPED


class TooDear(NotBaked):
    """The image is there and published, and cost more than it may, or nobody knows what it cost."""

    status = EXIT_TOO_DEAR


@dataclass(frozen=True, slots=True)
class World:
    """What a bake works with, so that tests can give it another.

    Attributes:
        builds: Image Builder and the published image.
        apply: makes AWS as terraform/image says.
        say: prints a line.
        clock: seconds that only grow.
        now: the moment, in UTC.
        wait: waits so many seconds, or until somebody asks to stop.
        asked: tells whether somebody asks to stop.
    """

    builds: Builds
    names: Names
    apply: Callable[[], None]
    say: Callable[[str], None]
    clock: Callable[[], float]
    now: Callable[[], datetime]
    wait: Callable[[float], None]
    asked: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one build may take, and what it may cost, in EUR without VAT."""

    seconds: float = 3600.0
    eur: float = 0.60
    usd_per_eur: float = USD_PER_EUR


def bake(world: World, source: str, limits: Limits, *, anew: bool) -> None:
    """Bake an image of these sources, named by their digest, unless there is one; wait for a build of them that runs.

    Args:
        world: what it works with.
        source: the digest.
        limits: for one build.
        anew: bake although there is such an image, or such a build.

    Raises:
        NotBaked: there is no new image, or it cost too much.
    """
    while True:
        published = world.builds.published()
        if published and published.source == source and not anew:
            world.say(f"{published.ami} is made of these sources already: nothing to bake ({world.names.parameter})")
            return
        running = [build for build in world.builds.all() if build.status in RUNNING]
        if not anew and _followed(world, running, source, limits):
            return
        if not running:
            break
        # Terraform may be about to replace what that build is made by.
        world.say(f"waiting for another build: {running[0].arn}")
        await_end(world, running[0].arn, limits, ours=False)
    if world.asked():
        raise Stopped("stopped before anything was changed; run it again")
    world.apply()
    if world.asked():
        raise Stopped("stopped before a build was started; run it again, nothing is paid for yet")
    # Whoever applied at the same time has waited for Terraform's lock, and may find that the other has begun.
    if not anew and _followed(world, world.builds.all(), source, limits):
        return
    arn = world.builds.start(source)
    world.say(f"baking {arn}")
    follow(world, arn, limits)


def _followed(world: World, builds: Iterable[Build], source: str, limits: Limits) -> bool:
    """Follow the build of these sources that runs, if there is one; tell whether."""
    for build in builds:
        if build.status in RUNNING and build.source == source:
            world.say(f"a build of these sources runs already: {build.arn}")
            follow(world, build.arn, limits)
            return True
    return False


def follow(world: World, arn: str, limits: Limits) -> None:
    """Wait for a build's end, and see that its image is published and cost no more than it may.

    Raises:
        NotBaked: it failed, or cost too much.
    """
    build = await_end(world, arn, limits)
    if build.status != "AVAILABLE":
        raise NotBaked(_why(world, build))
    _see_published(world, build)
    world.say(f"{build.ami} is baked and published; the GPU moves to it with the next `terraform apply` in terraform/")
    _judge_cost(world, build, limits)


def await_end(world: World, arn: str, limits: Limits, *, ours: bool = True) -> Build:
    """Look at a build until it has ended, well or not, and print each state that is new.

    Raises:
        NotBaked: it does not end in time; one of ours is cancelled, for its machine is paid for.
        Stopped: somebody asked to stop.
        botocore.exceptions.ClientError: AWS refuses, again and again.
    """
    began = world.clock()
    last, failures = "", 0
    while True:
        try:
            build = world.builds.look(arn)
        except (BotoCoreError, ClientError) as error:
            failures += 1
            if failures >= _MOST_FAILED_LOOKS:
                raise
            world.say(f"no look at the build: {error}")
        else:
            failures = 0
            if build.status != last:
                world.say(f"{_minutes(world.clock() - began)} {build.status}")
                last = build.status
            if build.status not in RUNNING:
                return build
        if world.asked():
            raise Stopped(
                f"stopped; the build goes on. To wait for its end: make bake ARGS='--follow {arn}'. To end it:"
                f" aws imagebuilder cancel-image-creation --image-build-version-arn {arn}"
            )
        if world.clock() - began >= limits.seconds:
            if not ours:
                raise NotBaked(f"{arn}, which is not of these sources, has not ended; wait for it and run this again")
            world.builds.cancel(arn)
            raise NotBaked(
                f"{arn} has not ended after {_minutes(limits.seconds)} and is cancelled, so that nobody pays for its"
                f" machine; what it did is in the log group {world.names.log_group}. --deadline-minutes gives it longer"
            )
        world.wait(_POLL_SECONDS)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02} min"


def _why(world: World, build: Build) -> str:
    """Say why a build came to nothing, as far as Image Builder tells."""
    try:
        parts = [
            f"{each.get('type', '')}: {each['message']}"
            for each in world.builds.workflows(build.arn)
            if each.get("status") not in {"COMPLETED", "SKIPPED"} and each.get("message")
        ]
    except (BotoCoreError, ClientError) as error:
        parts = [f"its parts cannot be listed: {error}"]
    version = build.arn.partition(":image/")[2].partition("/")[2]
    return "\n  ".join(
        [
            f"{build.arn} ended as {build.status}: {build.reason or 'Image Builder gives no reason'}",
            *parts,
            f"each step's output: log group {world.names.log_group}, stream {version}",
            'the image of before stays published; docs/runbook.md, "The bake fails", says what to do',
        ]
    )


def _see_published(world: World, build: Build) -> None:
    """See that the parameter names a build's image, tagged as what it is made of, or a later one of the same sources.

    Raises:
        NotBaked: it does not.
    """
    found: Published | None = None
    for look in range(_LOOKS_AT_PARAMETER):
        if look:
            world.wait(_POLL_SECONDS)
        found = world.builds.published()
        if found and build.source and found.source == build.source:
            return
        if found and found.ami == build.ami:
            if build.source:
                raise NotBaked(
                    f"{found.ami} is published, but tagged as made of other sources: terraform/image was applied while"
                    " it was built. Bake it anew: make bake ARGS=--force"
                )
            return
    there = f"names {found.ami}" if found else "names no image"
    raise NotBaked(
        f"{build.ami or 'the image'} is baked, but {world.names.parameter} {there}. If another build ended meanwhile,"
        " run this again. If not, publish it: aws ssm put-parameter --overwrite --type String --data-type"
        f" aws:ec2:image --name {world.names.parameter} --value {build.ami or 'AMI'}"
    )


def _judge_cost(world: World, build: Build, limits: Limits) -> None:
    """Print what a build cost.

    Raises:
        TooDear: more than it may, or nobody knows what.
    """
    prices = Prices.load()
    try:
        hours = machine_hours(build, world.builds.workflows(build.arn), world.now())
        eur = cost_eur(build, hours, prices, limits.usd_per_eur)
    except Unpriced as error:
        raise TooDear(f"the image is published, but nobody knows what it cost: {error}") from error
    where = "" if prices.region == world.names.region else f", at the prices of {prices.region}"
    world.say(f"{hours * 60:.0f} minutes of {build.kind} for EUR {eur:.2f}{where}; the limit is EUR {limits.eur:.2f}")
    if eur > limits.eur:
        raise TooDear(
            f"the build costs more than EUR {limits.eur:.2f}. Its image is good and published: run this again, which"
            " finds it, to go on. docs/delivery.md says what a build is made of; --max-eur sets the limit"
        )


def billed(world: World, client: Any, day: date, limits: Limits) -> None:
    """Hold what Cost Explorer says of a day's builds against the limit, each by itself.

    Raises:
        TooDear: one cost more.
        NotBaked: Cost Explorer knows nothing of a build of that day.
    """
    begun = {build.arn for build in world.builds.all() if build.created.startswith(day.isoformat())}
    found = ask_cost_explorer(client, day, world.names.region, world.names.builds_arn)
    costs = {arn: usd / limits.usd_per_eur for arn, usd in sorted(found.items())}
    for arn, eur in costs.items():
        world.say(f"{arn}: EUR {eur:.2f}")
    if missing := sorted(begun - costs.keys()):
        raise NotBaked(
            f"Cost Explorer does not know on {day} of {', '.join(missing)}. It is a day late; and it knows builds apart"
            f" only once {BUILD_TAG} is activated in the Billing console under Cost allocation tags, a day before"
        )
    if dear := [arn for arn, eur in costs.items() if eur > limits.eur]:
        raise TooDear(f"more than EUR {limits.eur:.2f}: {', '.join(dear)}")
    if not costs:
        world.say(f"no build on {day}")
