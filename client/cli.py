"""The `tlfif` command: reads options and environment, runs a subcommand, ends with an exit code."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
from collections.abc import Sequence

from client import infer
from client.errors import ClientError
from client.exits import HELP, ExitCode, for_error
from client.settings import DEFAULT_DEADLINE_SECONDS, Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tlfif` and return its exit code; argparse itself exits with 2 for options it does not know."""
    try:
        arguments = _parser().parse_args(argv)
        code: ExitCode = arguments.run(arguments)
    except ClientError as error:
        print(f"tlfif: {error}", file=sys.stderr)
        return for_error(error)
    except KeyboardInterrupt:
        print("tlfif: interrupted; a job that was accepted runs on", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more on its way out, which would fail, and say so, a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    return code


def _infer(arguments: argparse.Namespace) -> ExitCode:
    settings = Settings.read(arguments.url, arguments.token, arguments.deadline, os.environ)
    command = infer.Infer.read(arguments, sys.stdin.buffer)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal cannot show must not end the reply.
        sys.stdout.reconfigure(errors="replace")

    async def ask() -> ExitCode:
        from client.session import Client  # noqa: PLC0415 - imports httpx, which `--help` need not wait for

        async with Client(settings.url, settings.token, deadline_seconds=settings.deadline_seconds) as client:
            return await command.run(client, sys.stdout, sys.stderr)

    return asyncio.run(ask())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tlfif", description="Asks your own LLM, which sleeps until somebody does.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    about = "post a prompt and print the reply as it streams"
    asking = commands.add_parser(
        "infer",
        help=about,
        description=about,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_service_options()],
        allow_abbrev=False,
    )
    infer.add_arguments(asking)
    asking.set_defaults(run=_infer)
    return parser


def _service_options() -> argparse.ArgumentParser:
    """Declare what every command that calls the service takes."""
    shared = argparse.ArgumentParser(add_help=False)
    service = shared.add_argument_group("the service")
    service.add_argument("--url", help="base URL of the gateway (default: TLFIF_URL)")
    service.add_argument("--token", help="bearer token (default: TLFIF_TOKEN, which no process list shows)")
    service.add_argument(
        "--deadline",
        type=float,
        default=DEFAULT_DEADLINE_SECONDS,
        metavar="SECONDS",
        help="longest wait for the whole reply (default %(default)g)",
    )
    return shared


if __name__ == "__main__":
    sys.exit(main())
