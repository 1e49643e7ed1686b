"""`python -m tests.infra.aws_cli SERVICE OPERATION --option value …`: what docs/ shows of the AWS CLI, by boto3.

Options are those of the operation, `--query` is JMESPath and `--output` text or json, as the CLI has them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import boto3
import jmespath
from botocore import xform_name


def text_of(found: Any) -> str:
    """Return a result as `--output text` has it: a row a line, fields with a tab between."""
    if not isinstance(found, list):
        return "None" if found is None else str(found)
    if any(isinstance(each, list) for each in found):
        return "\n".join(text_of(each) for each in found)
    return "\t".join(text_of(each) for each in found)


def main(arguments: Sequence[str]) -> int:
    """Call AWS and print what it answers."""
    service, operation, *rest = arguments
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    query, output = options.pop("--query", "@"), options.pop("--output", "json")
    client = boto3.client(service)
    name = operation.replace("-", "_")
    members = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name]).input_shape.members
    known = {f"--{xform_name(member, '-')}": member for member in members}
    answer = getattr(client, name)(**{known[option]: value for option, value in options.items()})
    found = jmespath.search(query, answer)
    print(text_of(found) if output == "text" else json.dumps(found, indent=4, default=str))  # noqa: T201 - it is a CLI
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
