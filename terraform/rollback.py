"""`python -m terraform.rollback`: leads callers back to the versions that they were led to before the last deployment.

By the record of that deployment, and only as far as the functions are still where it moved them: a second rollback does
nothing. `--to` takes another release, `--function` and `--function-version` one function. Nothing is built or uploaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from terraform import aliases, functions, summary
from terraform.aliases import DeployError, Outcome
from terraform.deployment import FAILURES, Aws
from terraform.record import ROLLED_BACK, SHIFTING, Record, Records
from terraform.summary import Release, short


def last_deployment(client: Any, record: Record | None, commit: str | None = None) -> Iterator[Outcome]:
    """Put back what the last deployment changed; with a commit, only if that is what it deployed.

    Raises:
        DeployError: nothing is known of one.
    """
    if record is None:
        raise DeployError(
            "no deployment is on record; name a release with --to, or a function and its version with --function and"
            " --function-version"
        )
    if commit is not None and record.commit != short(commit):
        text = f"the last deployment is of {record.version} {record.commit}, and not of {short(commit)}: left alone"
        yield Outcome(text)
        return
    for function, change in sorted(record.functions.items()):
        yield aliases.put_back(client, function, change.before, change.now)


def of_release(versions: Sequence[Mapping[str, Any]], release: str) -> str | None:
    """Return the newest version of a function whose description says that it is of a release, `None` if none is."""
    found = [
        int(each["Version"])
        for each in versions
        if each["Version"].isdecimal() and each.get("Description", "").split(" ")[0] == release
    ]
    return str(max(found)) if found else None


def to_release(client: Any, name: str, release: str, earlier: Sequence[Record]) -> Iterator[Outcome]:
    """Lead every function to its version of a release: by its description, else by the records of deployments.

    Raises:
        DeployError: no function has one.
        botocore.exceptions.ClientError: AWS refuses.
    """
    wanted: dict[str, str | None] = {}
    for function in functions.find(client, name):
        published = list(functions.versions(client, function.name))
        version = of_release(published, release)
        if version is None:
            there = {each["Version"] for each in published}
            noted = (each.functions[function.name].now for each in _of(earlier, release, function.name))
            version = next((each for each in noted if each in there), None)
        wanted[function.name] = version
    if not any(wanted.values()):
        raise DeployError(
            f"no function of {name} has a version of {release}; check out its tag, and run make lambda-package and make"
            " deploy there"
        )
    for function_name, version in wanted.items():
        if version is None:
            text = f"{function_name} has no version of {release}, and stays where it is; deploy that release again"
            yield Outcome(text, is_well=False)
        else:
            yield aliases.put_back(client, function_name, version)


def _of(earlier: Sequence[Record], release: str, function: str) -> Iterator[Record]:
    return (each for each in earlier if each.version == release and function in each.functions)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m terraform.rollback", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--name", default="tl-fif", help="Terraform's variable `name`; default: tl-fif")
    add("--to", metavar="RELEASE", help="such as 0.8.0; default: what was before the last deployment")
    add("--of-commit", metavar="SHA", help="only if the last deployment was of it, and not of an earlier push")
    add("--function", metavar="NAME", help="one function's whole name, with --function-version")
    add("--function-version", metavar="NUMBER", help="the version that it is to run")
    add("--summary", type=Path, metavar="FILE", help="write what happened there, in Markdown")
    return parser


def roll_back(
    aws: Aws, options: argparse.Namespace, tell: Callable[[str], None]
) -> tuple[list[Outcome], Record | None]:
    """Do what the options ask for; return what became of each function, and the record of the last deployment.

    Raises:
        DeployError: there is nothing to go by.
        botocore.exceptions.ClientError: AWS refuses.
    """
    records = Records(aws.ssm, options.name)
    record, _ = records.read()
    if options.to:
        steps = to_release(aws.functions, options.name, options.to, list(records.earlier()))
    elif options.function:
        steps = iter([aliases.put_back(aws.functions, options.function, options.function_version)])
    else:
        steps = last_deployment(aws.functions, record, options.of_commit)
    outcomes = []
    for outcome in steps:
        tell(str(outcome))
        outcomes.append(outcome)
    is_done = all(each.is_well for each in outcomes)
    is_another = options.function or (options.of_commit and record and record.commit != short(options.of_commit))
    is_news = any(each.has_moved for each in outcomes) or (record is not None and record.state == SHIFTING)
    # A deployment that is still at work reads this, and ends.
    if record is not None and is_done and is_news and record.state != ROLLED_BACK and not is_another:
        records.write(dataclasses.replace(record, state=ROLLED_BACK, at=datetime.now(UTC)))
    return outcomes, record


def main(arguments: Sequence[str]) -> int:
    """Roll back with the credentials and the region of the environment; return 1 where a function could not go back."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if bool(options.function) != bool(options.function_version):
        parser.error("give --function and --function-version together")
    if sum(map(bool, (options.to, options.function, options.of_commit))) > 1:
        parser.error("give one of --to, --function and --of-commit")
    try:
        outcomes, record = roll_back(Aws.of_environment(), options, lambda line: print(line, flush=True))
    except BotoCoreError as error:
        print(f"rollback: {error}; set AWS_REGION and credentials", file=sys.stderr)
        return 1
    except FAILURES as error:
        print(f"rollback: {error}", file=sys.stderr)
        return 1
    moved, is_well = sum(each.has_moved for each in outcomes), all(each.is_well for each in outcomes)
    title = f"{moved} of {len(outcomes)} functions of {options.name} went back" if moved else "nothing went back"
    print(title if is_well else f"{title}; not all could, see above")
    if options.summary is not None:
        release = Release(record.version, record.commit) if record else Release("", "unknown")
        text = summary.page(title, release, [summary.listed(map(str, outcomes))])
        summary.write(options.summary, text)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
