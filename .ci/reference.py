"""Write the pages of docs/ that follow from the code: configuration, API, index of decisions (`make reference`).

`--check` writes nothing and ends with 1 if a page is not what would be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml
from pages import decisions, functions, options, terraform, worker
from pages.api import Api
from pages.markdown import page

from client.cli import _parser as parser_of_the_client
from local.options import Options
from worker.settings import Settings

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
TERRAFORM: Final = ROOT / "terraform"

ROOTS: Final = {
    "The system": (TERRAFORM, "`terraform/`, everything that answers prompts; [how to apply it](deploy.md)."),
    "The image": (TERRAFORM / "image", "`terraform/image`, what bakes the GPU's image."),
    "The pipeline": (TERRAFORM / "delivery", "`terraform/delivery`, what tests and deploys each push."),
}


def configuration() -> str:
    """Return docs/configuration.md."""
    local = argparse.ArgumentParser(add_help=False)
    Options.add_to(local)
    client = [
        f"### `tlfif {name}`\n\n{options.render(parser)}"
        for name, parser in options.commands(parser_of_the_client()).items()
    ]
    roots = [
        f"### {title}\n\nIn {where}\n\n{terraform.render(folder)}"
        for title, (folder, where) in ROOTS.items()
        if (folder / "variables.tf").exists()
    ]
    return page(
        "# Configuration",
        "Everything that can be set, with its default, its limits and its meaning, as the code itself has it. What is"
        " wrong is named at the start, all of it at once, and without what it held. [What is a switch for a change that"
        " is not finished](feature-flags.md) has a page of its own. AWS credentials, region and endpoints come by the"
        " AWS SDK's own variables, such as `AWS_REGION` and `AWS_ENDPOINT_URL_S3`.",
        "## The worker",
        "Environment of `python -m worker`, which ends with 2 if something is wrong with it. On a node they stand in"
        " `/etc/tl-fif/worker.env`, where Terraform's `worker_environment` adds to them.",
        worker.render(Settings),
        "## The functions",
        "Environment of the Lambdas, set by Terraform. One whose settings are wrong fails at its first event and names"
        " them in its log. [What each function does](../router_lambda/README.md).",
        functions.render(),
        "## The client",
        "What is not given as an option is taken from the variable. [How the command is used](client.md).",
        *client,
        "## The local stack",
        "`python -m local` and `make demo` set the addresses for the worker and the functions, and hand on the worker's"
        " other settings; `TLFIF_MODEL` is optional there, and the idle time is 30 minutes unless `TLFIF_IDLE_MINUTES`"
        " is set.",
        options.render(local),
        "## Terraform",
        "Given as `-var NAME=VALUE`, by a file `terraform.tfvars` or by a profile.",
        *roots,
        "### The profiles",
        terraform.profiles(TERRAFORM / "profiles"),
    )


def api() -> str:
    """Return docs/api.md."""
    document = yaml.safe_load((ROOT / "router_lambda" / "openapi.yaml").read_text(encoding="utf-8"))
    described = Api(document)
    return page(
        "# The HTTP API",
        "The routes, bodies and answers of [openapi.yaml](../router_lambda/openapi.yaml), for reading.",
        described.introduction(),
        "A page from `http://localhost` is also answered with `Access-Control-Allow-Origin`,"
        " `Access-Control-Expose-Headers` and `Vary`; the tables leave these out.",
        "## Routes",
        described.routes(),
        "## Preflights",
        described.preflights(),
        "## Anything else",
        described.edges(),
        "## Headers of the answers",
        described.headers(),
        "## Bodies",
        described.schemas(),
        "## Examples of answers",
        described.answers(),
    )


def index() -> str:
    """Return docs/adr/README.md."""
    return page(
        "# Decisions",
        "One paragraph each on context, decision and consequences, by what they are about. [How a new one is"
        " written](../../CONTRIBUTING.md#decisions).",
        decisions.render(DOCS / "adr"),
    )


PAGES: Final[dict[Path, Callable[[], str]]] = {
    DOCS / "configuration.md": configuration,
    DOCS / "api.md": api,
    DOCS / "adr" / "README.md": index,
}


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or check them; return the exit code."""
    parser = argparse.ArgumentParser(prog="make reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a page is stale")
    parser.add_argument("--output", type=Path, default=ROOT, metavar="FOLDER", help="write below this folder instead")
    asked = parser.parse_args(arguments)
    stale = []
    for path, render in PAGES.items():
        target, text = asked.output / path.relative_to(ROOT), render()
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        if asked.check:
            stale.append(str(path.relative_to(ROOT)))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    if stale:
        print(f"not what the code says: {', '.join(stale)}; run: make reference", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
