"""`python -m terraform.build_image` (`make bake`): bakes the GPU's image, unless the newest is of the same sources.

It applies terraform/image, starts the pipeline of EC2 Image Builder, waits for the build's end, sees that the new image
is the one that instances boot from, and holds what the build cost against a limit. The GPU itself moves to the new
image with the next `terraform apply` in terraform/. docs/delivery.md says what happens when this is killed, or runs
twice.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from terraform.baking import BadSettings, Limits, NotBaked, World, bake, billed, follow
from terraform.build_cost import USD_PER_EUR
from terraform.builds import Builds, Names
from terraform.image_root import Signals, TerraformFailed, apply, state_in

ARCHIVE: Final = Path(__file__).parent.parent / "dist" / "tl-fif-node.tar.gz"


def read_source(archive: Path) -> str:
    """Return the digest that `make image-package` wrote beside the archive.

    Raises:
        BadSettings: either is not there.
    """
    file = archive.with_name(archive.name.removesuffix(".tar.gz") + ".sources")
    if not archive.is_file() or not file.is_file():
        raise BadSettings(f"{archive} or {file.name} beside it is not there; run make image-package")
    digest = file.read_text(encoding="utf-8").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise BadSettings(f"{file} holds no digest; run make image-package")
    return digest


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, such as instance_type=m7i.large; this is {text}")
    return name, value


def _amount(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:  # noqa: PLR2004 - anything sensible is below
        raise argparse.ArgumentTypeError(f"write a number above 0; this is {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    usual = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m terraform.build_image", description=(__doc__ or "").partition("\n")[0].partition(": ")[2]
    )
    add = parser.add_argument
    add("--name", default="tl-fif", help="Terraform's variable `name`; default: tl-fif")
    add("--archive", type=Path, default=ARCHIVE, help="what make image-package built; default: dist/tl-fif-node.tar.gz")
    add("--var", type=_variable, action="append", default=[], metavar="NAME=VALUE", help="for terraform/image")
    add("--max-eur", type=_amount, default=usual.eur, help=f"what a build may cost; default: {usual.eur:.2f}")
    add("--usd-per-eur", type=_amount, default=USD_PER_EUR, help=f"exchange rate; default: {USD_PER_EUR}")
    add("--deadline-minutes", type=_amount, default=usual.seconds / 60, help="a build that takes longer is cancelled")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--force", action="store_true", help="bake although the newest image has the same sources")
    what.add_argument("--follow", metavar="ARN", help="wait for a build that runs, and start none")
    what.add_argument(
        "--cost-explorer",
        type=date.fromisoformat,
        metavar="DATE",
        help="hold that day's builds against the limit by Cost Explorer, a day late and for $0.01; bake none",
    )
    return parser


def _until_asked(stop: Signals, seconds: float) -> None:
    """Wait, a second at a time: Python's own sleep goes on after a signal."""
    end = time.monotonic() + seconds
    while not stop.asked and (left := end - time.monotonic()) > 0:
        time.sleep(min(1.0, left))


def _find(name: str, client: Callable[[str], Any], region: str) -> Names:
    """Learn whose account it is."""
    account, partition = (client("sts").get_caller_identity()[each] for each in ("Account", "Arn"))
    return Names(name, region, account, partition.split(":")[1])


def _carry_out(
    options: argparse.Namespace, client: Callable[[str], Any], region: str, say: Callable[[str], None]
) -> None:
    """Do what the options ask for.

    Raises:
        NotBaked: as its message says.
        TerraformFailed: likewise.
        botocore.exceptions.ClientError: AWS refuses.
    """
    stop = Signals()
    limits = Limits(options.deadline_minutes * 60, options.max_eur, options.usd_per_eur)
    source = "" if options.follow or options.cost_explorer else read_source(options.archive)
    names = _find(options.name, client, region)
    variables = {"name": names.name, "region": region, "archive": str(options.archive.resolve()), **dict(options.var)}

    def apply_image() -> None:
        with state_in(os.environ.get("TLFIF_STATE_BUCKET"), region) as environment:
            apply(variables, environment, stop.run)

    world = World(
        builds=Builds(client, names),
        names=names,
        apply=apply_image,
        say=say,
        clock=time.monotonic,
        now=lambda: datetime.now(UTC),
        wait=functools.partial(_until_asked, stop),
        asked=lambda: stop.asked,
    )
    with stop.listening():
        if options.cost_explorer:
            billed(world, client("ce"), options.cost_explorer, limits)
        elif options.follow:
            follow(world, options.follow, limits)
        else:
            bake(world, source, limits, anew=options.force)


def main(arguments: Sequence[str]) -> int:
    """Bake with the credentials and the region of the environment; return how it went, as docs/delivery.md lists."""
    import boto3  # noqa: PLC0415 - `--help` needs none
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    options = _parser().parse_args(arguments)
    say = functools.partial(print, flush=True)
    complain = functools.partial(print, file=sys.stderr, flush=True)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        if not region:
            raise BadSettings("set AWS_REGION to the region of the system")

        def client(service: str) -> Any:
            # Cost Explorer is in one region alone.
            return boto3.client(service, region_name="us-east-1" if service == "ce" else region)

        _carry_out(options, client, region, say)
    except NotBaked as error:
        complain(f"bake: {error}")
        return error.status
    except TerraformFailed as error:
        complain(f"bake: {error}")
        return NotBaked.status
    except (BotoCoreError, ClientError) as error:
        complain(f"bake: {error}; see that the credentials are those of whoever may bake, and run it again")
        return NotBaked.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
