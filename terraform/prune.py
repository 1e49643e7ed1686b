"""`python -m terraform.prune`: deletes old versions of the Lambda functions, which AWS keeps for ever otherwise.

Terraform publishes a version with each deployment and never deletes one. The newest five stay, so that the alias can be
put back to one of them, and so does whatever an alias points to, however old it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

KEEP: Final = 5
"""Versions of each function that stay."""


def superfluous(versions: Sequence[str], in_use: set[str], keep: int) -> list[str]:
    """Return the versions to delete, oldest first: all but the newest `keep` and those `in_use`.

    `versions` are Lambda's: numbers as text, and `$LATEST`, which is none.
    """
    numbers = sorted(int(version) for version in versions if version.isdecimal())
    old = numbers[: max(0, len(numbers) - keep)]
    return [str(number) for number in old if str(number) not in in_use]


def functions(client: Any, prefix: str) -> Iterator[str]:
    """Find the functions whose names begin with `prefix` and a hyphen."""
    for page in client.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            if function["FunctionName"].startswith(f"{prefix}-"):
                yield function["FunctionName"]


def used(client: Any, function: str) -> set[str]:
    """Return the versions that an alias of a function sends calls to."""
    found = set()
    for page in client.get_paginator("list_aliases").paginate(FunctionName=function):
        for alias in page["Aliases"]:
            found.add(alias["FunctionVersion"])
            found.update(alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}))
    return found


def prune(client: Any, prefix: str, keep: int) -> Iterator[tuple[str, str]]:
    """Delete the superfluous versions of all functions of a system; yield function and version of each.

    Raises:
        botocore.exceptions.ClientError: AWS refuses; what is deleted by then stays so, and another run goes on.
    """
    for function in functions(client, prefix):
        pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=function)
        versions = [version["Version"] for page in pages for version in page["Versions"]]
        for version in superfluous(versions, used(client, function), keep):
            client.delete_function(FunctionName=function, Qualifier=version)
            yield function, version


def main(arguments: Sequence[str]) -> int:
    """Delete old versions with the credentials and the region of the environment; print each."""
    import boto3  # noqa: PLC0415 - `--help` needs none
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m terraform.prune", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", default="tl-fif", help="Terraform's variable `name`; default: tl-fif")
    parser.add_argument("--keep", type=int, default=KEEP, help=f"versions that stay of each function; default: {KEEP}")
    options = parser.parse_args(arguments)
    if options.keep < 1:
        parser.error("keep at least one version, for there has to be one that runs")
    try:
        count = 0
        for function, version in prune(boto3.client("lambda"), options.name, options.keep):
            print(f"deleted {function}:{version}")
            count += 1
    except (BotoCoreError, ClientError) as error:
        print(f"prune: {error}; set AWS_REGION and credentials that may list and delete functions", file=sys.stderr)
        return 1
    print(f"{count} old versions deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
