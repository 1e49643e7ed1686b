"""The `tlfif` command: reads options and environment, runs a subcommand, ends with an exit code."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from client import infer, login, status, stop
from client.errors import ClientError
from client.exits import HELP, ExitCode, for_error
from client.password import passwords
from client.settings import DEFAULT_DEADLINE_SECONDS, Settings
from client.tokens import TokenFile

if TYPE_CHECKING:
    from client.session import Client


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tlfif` and return its exit code; argparse itself exits with 2 for options it does not know."""
    if sys.stderr is None:  # closed by the shell, as with `2>&-`; `print` would write to stdout instead
        sys.stderr = io.StringIO()
    try:
        arguments = _parser().parse_args(argv)
        code: ExitCode = arguments.run(arguments)
    except ClientError as error:
        print(f"tlfif: {error}", file=sys.stderr)
        return for_error(error)
    except KeyboardInterrupt:
        print("tlfif: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more on its way out, which would fail, and say so, a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    return code


def _infer(arguments: argparse.Namespace) -> ExitCode:
    settings = _settings(arguments, arguments.deadline)
    command = infer.Infer.read(arguments, sys.stdin.buffer)
    _replace_what_cannot_be_shown()
    try:
        return _ask(settings, lambda client: command.run(client, sys.stdout, sys.stderr))
    except KeyboardInterrupt:
        print(f"tlfif: interrupted; {command.left_behind()}", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _status(arguments: argparse.Namespace) -> ExitCode:
    settings = _settings(arguments, DEFAULT_DEADLINE_SECONDS)
    _replace_what_cannot_be_shown()
    return _ask(settings, lambda client: status.run(client, sys.stdout, watch=arguments.watch, output=arguments.output))


def _stop(arguments: argparse.Namespace) -> ExitCode:
    settings = _settings(arguments, DEFAULT_DEADLINE_SECONDS)
    return _ask(settings, lambda client: stop.run(client, arguments.id, sys.stdout))


def _login(arguments: argparse.Namespace) -> ExitCode:
    command = login.LogIn.read(arguments, os.environ)
    file = TokenFile.at_home(os.environ)
    return command.run(file, passwords(sys.stdin), time.time, sys.stdout, sys.stderr)


def _replace_what_cannot_be_shown() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal cannot show must not end the reply.
        sys.stdout.reconfigure(errors="replace")


def _settings(arguments: argparse.Namespace, deadline_seconds: float) -> Settings:
    return Settings.read(
        arguments.url,
        arguments.token,
        deadline_seconds,
        os.environ,
        lambda url: login.stored_token(url, os.environ),
    )


def _ask(settings: Settings, command: Callable[[Client], Awaitable[ExitCode]]) -> ExitCode:
    async def ask() -> ExitCode:
        from client.session import Client  # noqa: PLC0415 - imports httpx, which `--help` need not wait for

        async with Client(settings.url, settings.token, deadline_seconds=settings.deadline_seconds) as client:
            return await command(client)

    return asyncio.run(ask())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tlfif", description="Asks your own LLM, which sleeps until somebody does.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, about: str, run: Callable[[argparse.Namespace], ExitCode], *options: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=about,
            description=about,
            epilog=HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=options,
            allow_abbrev=False,
        )
        added.set_defaults(run=run)
        return added

    service = _service_options()
    infer.add_arguments(command("infer", "post a prompt and print the reply as it streams", _infer, service))
    status.add_arguments(command("status", "tell what the GPU does", _status, service))
    stop.add_arguments(command("stop", "cancel a job, or stop the GPU", _stop, service))
    login.add_arguments(command("login", "sign in with a password and store the tokens", _login))
    return parser


def _service_options() -> argparse.ArgumentParser:
    """Declare what every command that calls the service takes."""
    shared = argparse.ArgumentParser(add_help=False)
    service = shared.add_argument_group("the service")
    service.add_argument("--url", help="base URL of the gateway (default: TLFIF_URL)")
    service.add_argument(
        "--token", help="bearer token (default: TLFIF_TOKEN, which no process list shows, else that of `tlfif login`)"
    )
    return shared


if __name__ == "__main__":
    sys.exit(main())
