"""`python -m terraform.prune`: deletes old versions of the Lambda functions, which AWS keeps for ever otherwise.

Terraform and each deployment publish versions and never delete one. The newest five stay, so that the alias can be put
back to one of them, and so does, however old it is, what an alias leads to and what `make rollback` would lead it to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from terraform.aliases import DeployError
from terraform.functions import find
from terraform.functions import versions as published
from terraform.record import Records

KEEP: Final = 5
"""Versions of each function that stay."""


def superfluous(versions: Sequence[str], in_use: set[str], keep: int) -> list[str]:
    """Return the versions to delete, oldest first: all but the newest `keep` and those `in_use`.

    `versions` are Lambda's: numbers as text, and `$LATEST`, which is none.
    """
    numbers = sorted(int(version) for version in versions if version.isdecimal())
    old = numbers[: max(0, len(numbers) - keep)]
    return [str(number) for number in old if str(number) not in in_use]


def used(client: Any, function: str) -> set[str]:
    """Return the versions that an alias of a function sends calls to."""
    found = set()
    for page in client.get_paginator("list_aliases").paginate(FunctionName=function):
        for alias in page["Aliases"]:
            found.add(alias["FunctionVersion"])
            found.update(alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}))
    return found


def prune(client: Any, system: str, keep: int, kept: Collection[tuple[str, str]] = ()) -> Iterator[tuple[str, str]]:
    """Delete the superfluous versions of all functions of a system; yield function and version of each.

    Functions and versions in `kept` stay besides.

    Raises:
        botocore.exceptions.ClientError: AWS refuses; what is deleted by then stays so, and another run goes on.
    """
    for function in find(client, system):
        versions = [each["Version"] for each in published(client, function.name)]
        in_use = used(client, function.name) | {version for name, version in kept if name == function.name}
        for version in superfluous(versions, in_use, keep):
            client.delete_function(FunctionName=function.name, Qualifier=version)
            yield function.name, version


def on_record(client: Any, system: str) -> set[tuple[str, str]]:
    """Return functions and versions that `make rollback` would lead their aliases to.

    Raises:
        DeployError: the record of the last deployment is none.
        botocore.exceptions.ClientError: AWS refuses.
    """
    record, _ = Records(client, system).read()
    return set() if record is None else {(name, change.before) for name, change in record.functions.items()}


def main(arguments: Sequence[str]) -> int:
    """Delete old versions with the credentials and the region of the environment; print each."""
    parser = argparse.ArgumentParser(prog="python -m terraform.prune", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", default="tl-fif", help="Terraform's variable `name`; default: tl-fif")
    parser.add_argument("--keep", type=int, default=KEEP, help=f"versions that stay of each function; default: {KEEP}")
    options = parser.parse_args(arguments)
    if options.keep < 1:
        parser.error("keep at least one version, for there has to be one that runs")
    try:
        count, kept = 0, on_record(boto3.client("ssm"), options.name)
        for function, version in prune(boto3.client("lambda"), options.name, options.keep, kept):
            print(f"deleted {function}:{version}")
            count += 1
    except DeployError as error:
        print(f"prune: {error}", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"prune: {error}; set AWS_REGION and credentials that may list and delete functions", file=sys.stderr)
        return 1
    print(f"{count} old versions deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
