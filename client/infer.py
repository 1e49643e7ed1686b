"""`tlfif infer`: posts a prompt and prints the reply as it grows."""

from __future__ import annotations

import argparse
import json
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO

from client.errors import InvalidSettings
from client.exits import ExitCode, for_status
from client.printing import FinalDocument, GrowingText, LabelledChoices, Printer, ending, receipt
from client.request import json_schema_format, text_messages
from client.settings import DEFAULT_DEADLINE_SECONDS
from client.waking import Waking

if TYPE_CHECKING:  # httpx takes longer to import than the rest of the command, and `--help` needs none of it
    from client.session import Client

STDIN: Final = "-"

_SAMPLING: Final = ("max_tokens", "temperature", "top_p", "seed", "stop", "n")
"""Options that are passed on under their own name in `params`; the service checks them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `tlfif infer` takes."""
    parser.add_argument("prompt", help="the prompt; - reads it from stdin, byte for byte")
    asking = parser.add_argument_group("the prompt")
    shape = asking.add_mutually_exclusive_group()
    shape.add_argument("--system", metavar="TEXT", help="system message to put before the prompt")
    shape.add_argument("--raw", action="store_true", help="send the prompt without the model's chat template")
    sampling = parser.add_argument_group("the answer")
    sampling.add_argument("--max-tokens", type=int, metavar="N", help="longest answer, 1-2048 (default 256)")
    sampling.add_argument("--temperature", type=float, metavar="X", help="0-2; 0 always takes the likeliest token")
    sampling.add_argument("--top-p", type=float, metavar="X", help="share of probability to draw from, above 0 to 1")
    sampling.add_argument("--seed", type=int, metavar="N", help="makes the draw repeatable")
    sampling.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; up to 4 times")
    sampling.add_argument("--n", type=int, metavar="N", help="choices, 1-8; several are printed at the end")
    form = sampling.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="make the model answer with a JSON object")
    form.add_argument("--json-schema", type=Path, metavar="FILE", help="make it answer to the JSON Schema in FILE")
    parser.add_argument(
        "--idle-minutes", type=int, metavar="N", help="how long the GPU stays up afterwards, 1-30 (default 5)"
    )
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="1-64 characters; as long as a job with this key is known, asking again shows that job and queues none",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEFAULT_DEADLINE_SECONDS,
        metavar="SECONDS",
        help="longest wait for the whole reply (default %(default)g)",
    )
    parser.add_argument(
        "--output",
        choices=["text", "json"],
        default="text",
        help="print the text as it grows, or only the final reply document as JSON (default text)",
    )


@dataclass(slots=True)
class Infer:
    """What to post, as `Client.submit` takes it, and how to show the reply; `job_id` once it is accepted."""

    job: dict[str, Any]
    output: str
    job_id: str | None = None

    @classmethod
    def read(cls, arguments: argparse.Namespace, stdin: BinaryIO) -> Infer:
        """Read the options, the prompt and the schema.

        Raises:
            InvalidSettings: the prompt or the schema cannot be read.
        """
        prompt = _read_prompt(stdin) if arguments.prompt == STDIN else arguments.prompt
        params = {name: value for name in _SAMPLING if (value := getattr(arguments, name)) is not None}
        if arguments.json:
            params["response_format"] = {"type": "json_object"}
        if arguments.json_schema is not None:
            params["response_format"] = json_schema_format(_read_schema(arguments.json_schema))
        job: dict[str, Any] = {
            "idle_minutes": arguments.idle_minutes,
            "raw": arguments.raw,
            "params": params,
            "idempotency_key": arguments.idempotency_key,
        }
        if arguments.system is None:
            job["prompt"] = prompt
        else:
            job["messages"] = text_messages(arguments.system, prompt)
        return cls(job, arguments.output)

    def printer(self, out: TextIO) -> Printer:
        """Return what shows the reply on `out`."""
        if self.output == "json":
            return FinalDocument(out)
        return LabelledChoices(out) if self.job["params"].get("n", 1) > 1 else GrowingText(out)

    def left_behind(self) -> str:
        """Say what an interrupted command leaves to the service."""
        if self.job_id is None:
            return "a job that was accepted runs on"
        return f"the job runs on, unless `tlfif stop {self.job_id}` cancels it"

    async def run(self, client: Client, out: TextIO, err: TextIO) -> ExitCode:
        """Post the job and show its reply on `out`; everything about it goes to `err`.

        Raises:
            ClientError: no final reply came; what had arrived is shown.
        """
        submission = await client.submit(**self.job)
        self.job_id = submission.id
        print(f"tlfif: job {submission.id}", file=err, flush=True)
        if submission.status == "starting":
            eta = "" if submission.eta_seconds is None else f", which takes about {submission.eta_seconds:.0f} s"
            print(f"tlfif: the GPU is starting{eta}", file=err, flush=True)
        printer = self.printer(out)
        first = last = None
        try:
            async with Waking(client, submission, err) as waking, aclosing(client.follow(submission)) as snapshots:
                async for last in snapshots:
                    waking.end()
                    printer.show(last)
                    if first is None and any(choice.text for choice in last.choices):
                        first = last
        finally:
            printer.close()
        assert last is not None, "follow ends with a final snapshot or raises"
        if problem := ending(last):
            print(f"tlfif: {problem}", file=err)
        print(f"tlfif: {receipt(first, last)}", file=err)
        return for_status(last.status)


def _read_prompt(stdin: BinaryIO) -> str:
    try:
        return stdin.read().decode("utf-8")
    except UnicodeDecodeError as error:
        # Without the original, which repeats the bytes.
        raise InvalidSettings([f"stdin is not UTF-8: bad byte at offset {error.start}; convert it first"]) from None


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidSettings([f"--json-schema: cannot read {path}: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:
        raise InvalidSettings([f"--json-schema: {path} is not JSON: {error}"]) from error
    if not isinstance(schema, dict):
        raise InvalidSettings([f"--json-schema: {path} must hold a JSON object"])
    return schema
