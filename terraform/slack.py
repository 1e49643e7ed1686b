"""`python -m terraform.slack FILE`: posts a page of Markdown to Slack, by the webhook that TLFIF_SLACK_WEBHOOK names.

Whoever has that address can write into the channel, so that it is in no output and in no error. A deployment does not
fail because Slack does: that is a warning.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx

VARIABLE: Final = "TLFIF_SLACK_WEBHOOK"

TRIES: Final = 3
WAIT_SECONDS: Final = 2.0
LONGEST_WAIT_SECONDS: Final = 10.0
MOST_CHARACTERS: Final = 12_000
"""A message that is longer is cut into several by Slack."""

EXIT_USAGE: Final = 2

_TRY_AGAIN: Final = 429


class NotTold(Exception):
    """Slack has not taken the message; the message of this says why, without the webhook's address."""


def to_slack(markdown: str) -> str:
    """Return Markdown as Slack writes it: headings, bold words, links and lists."""
    text = markdown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"\*\*(.+?)\*\*", r"*\1*", text)
    text = re.sub(r"\[([^\]]+)\]\((https://[^)\s]+)\)", r"<\2|\1>", text)
    text = re.sub(r"^#+ (.+)$", r"*\1*", text, flags=re.MULTILINE)
    return re.sub(r"^- ", "• ", text, flags=re.MULTILINE)[:MOST_CHARACTERS].strip()


def _wait_seconds(answer: httpx.Response | None, number: int) -> float:
    """Return how long to wait after the try of a number, 0 for the first: as Slack says, within reason."""
    said = answer.headers.get("retry-after", "") if answer is not None else ""
    return min(float(said), LONGEST_WAIT_SECONDS) if said.isdecimal() else WAIT_SECONDS * 2**number


def post(client: httpx.Client, url: str, text: str, pause: Callable[[float], None]) -> None:
    """Post a text.

    Raises:
        NotTold: Slack does not take it.
    """
    reason = ""
    for number in range(TRIES):
        answer = None
        try:
            answer = client.post(url, json={"text": text})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = f"Slack cannot be reached ({type(error).__name__})"  # an error's own words may name the address
        else:
            if answer.is_success:
                return
            reason = f"Slack answers {answer.status_code}"
            if answer.status_code != _TRY_AGAIN and not answer.is_server_error:
                raise NotTold(f"{reason}: make a new webhook, and put it where {VARIABLE} comes from")
        if number < TRIES - 1:
            pause(_wait_seconds(answer, number))
    raise NotTold(f"{reason}, in {TRIES} tries: see its status page; the summary stands above")


def main(
    arguments: Sequence[str],
    transport: httpx.BaseTransport | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Post the file; return 0 also when nobody could be told, 2 where there is no file."""
    parser = argparse.ArgumentParser(prog="python -m terraform.slack", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="what make deploy, make rollback or make smoke wrote by --summary")
    options = parser.parse_args(arguments)
    try:
        text = options.file.read_text(encoding="utf-8")
    except OSError as error:
        print(f"slack: {error}; give the file that --summary named", file=sys.stderr)
        return EXIT_USAGE
    url = os.environ.get(VARIABLE, "").strip()
    if url in {"", "none"}:
        print(f"{VARIABLE} is not set: nobody is told")
        return 0
    if not url.startswith("https://"):
        print(f"warning: {VARIABLE} is no https address: nobody is told", file=sys.stderr)
        return 0
    logging.getLogger("httpx").setLevel(logging.WARNING)  # below that it logs addresses
    with httpx.Client(transport=transport, timeout=10) as client:
        try:
            post(client, url, to_slack(text), pause)
        except NotTold as failure:
            print(f"warning: {failure}", file=sys.stderr)
            return 0
    print("Slack has it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
