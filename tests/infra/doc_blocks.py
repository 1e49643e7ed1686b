"""Who runs the commands that the pages show: a test, or nobody here, because they need what no test has.

A block is one of three things. What a test runs is in `RUN_BY`, and what a test stands for in `STANDS_FOR`. What needs
AWS, a node, Docker or GitHub is known by its commands, and its page has to say so. Everything else is a fault.
"""

from __future__ import annotations

import re
from typing import Final

from tests.infra.markdown_pages import Block, prose

_COMMANDS: Final = "tests/process/test_doc_commands.py"
_ASK: Final = (
    """curl -i -H "Authorization: Bearer $TLFIF_TOKEN" -d '{"prompt": "Why is the sky blue?"}' "$TLFIF_URL/infer\""""
)
_ENQUEUE: Final = ".venv/bin/python -c 'from router_lambda.job import ENQUEUE_LUA; print(ENQUEUE_LUA)' > enqueue.lua"
_PROOF: Final = """.venv/bin/python -m ami.proof --model MODEL --golden smollm2 --engine-args '{"dtype": "float32"}'"""
_SMOKE: Final = "export TLFIF_URL=https://… TLFIF_COGNITO_URL=https://cognito-idp.eu-central-1.amazonaws.com"

JOB: Final = "5f0c1d2e-3a4b-4c5d-8e6f-708192a3b4c5"
"""The job that docs/client.md cancels."""

RUN_BY: Final = {
    ("README.md", ".venv/bin/python -m local"): f"{_COMMANDS}::test_the_readme_s_commands",
    ("README.md", "export TLFIF_URL=http://127.0.0.1:…  TLFIF_TOKEN=…"): f"{_COMMANDS}::test_the_readme_s_commands",
    ("README.md", _ASK): f"{_COMMANDS}::test_the_readme_s_two_requests",
    ("README.md", "KEY=$(openssl rand -hex 32)"): f"{_COMMANDS}::test_the_readme_s_key_opens_the_worker",
    ("docs/client.md", "tlfif login"): f"{_COMMANDS}::test_the_command_line_s_page",
    ("docs/client.md", 'tlfif infer "Name three fruits."'): f"{_COMMANDS}::test_the_command_line_s_page",
    ("docs/client.md", "tlfif status"): f"{_COMMANDS}::test_the_command_line_s_page",
    ("docs/client.md", f"tlfif stop {JOB}"): f"{_COMMANDS}::test_the_command_line_s_page",
    ("docs/redis.md", "alias rc='redis-cli -u redis://127.0.0.1:6379'"): f"{_COMMANDS}::test_the_queue_by_hand",
    ("docs/redis.md", _ENQUEUE): f"{_COMMANDS}::test_the_queue_by_hand",
    ("docs/redis.md", "rc GET job:$id"): f"{_COMMANDS}::test_the_queue_by_hand",
    ("docs/redis.md", "rc <<END"): f"{_COMMANDS}::test_the_queue_by_hand",
}
"""Page and first line of each block whose text a test takes from the page and runs, and that test."""

_PACKAGE: Final = ("tests/integration/lambda_world.py", "lambda_package.py")
_ALL_TESTS: Final = (".github/workflows/ci.yml", "make test")

STANDS_FOR: Final = {
    ("README.md", "make demo"): ("tests/process/test_local_system.py", "local.demo"),
    ("README.md", "make test"): _ALL_TESTS,
    ("README.md", "TLFIF_ENGINE_ARGS='{\"tensor_parallel_size\": 4}'"): (
        "tests/engine/test_parallel.py",
        "tensor_parallel_size",
    ),
    ("docs/lambda.md", "make lambda-package"): _PACKAGE,
    ("docs/lambda.md", 'make test ARGS="tests/integration/test_lambda_functions.py --no-cov"'): _ALL_TESTS,
    ("docs/lambda.md", "pip install aws-sam-cli"): ("tests/infra/test_sam_template.py", '"validate"'),
    ("docs/deploy.md", "make lambda-package"): _PACKAGE,
    ("docs/deploy.md", 'curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/v1/models'): (
        *("tests/process/test_openai_process.py", "/v1/models"),
    ),
    ("docs/smoke.md", _SMOKE): ("tests/e2e/test_smoke_local.py", "tests.e2e.smoke"),
    ("docs/gpu.md", "benchmarks/gpu.sh"): ("tests/integration/test_bench_gpu.py", "gpu.sh"),
    ("ami/README.md", _PROOF): ("tests/process/test_proof.py", "ami.proof"),
    ("benchmarks/README.md", "make bench"): ("tests/integration/test_bench_report.py", "benchmarks"),
    ("terraform/README.md", 'make test ARGS="tests/infra --no-cov"'): _ALL_TESTS,
}
"""The same of what would take too long, or an installation anew: what runs it otherwise, and by which words.

What a target of make stands for has these words, too.
"""

_AT: Final = r"(?m)(?:^|\$\(|[|;&(] *|\b(?:do|then|exec --|until) +)(?:\w+=\S* +)* *"
"""Where a command begins."""

_DEPLOYING: Final = (
    r"make (?:bake|deploy|rollback|smoke|announce)|\S*python -m terraform\.(?:deploy|rollback|build_image|prune)"
)

NEEDS: Final = {
    "AWS": (rf"{_AT}(?:aws|terraform|ami/session\.sh|{_DEPLOYING})\b", r"\bAWS\b"),
    "a node": (rf"{_AT}(?:sudo|systemctl|nvidia-smi|useradd)\b", r"\bnode\b|\binstance\b"),
    "Docker": (rf"{_AT}sam local\b", r"\bDocker\b"),
    "GitHub": (rf"{_AT}(?:gh|make (?:labels|release))\b", r"\bGitHub\b"),
}
"""What no test has: how a command that needs it looks, and what its page has to mention."""


def needed(block: Block) -> str | None:
    """Return what a block needs that no test has, `None` for nothing."""
    bare = re.sub(r"\s#\s.*", "", block.text)
    return next((what for what, (command, _) in NEEDS.items() if re.search(command, bare)), None)


def fault(block: Block, page: str) -> str | None:
    """Say why nobody knows whether a block works, given its page's text; `None` if somebody does."""
    where = f"{block.page}:{block.line}"
    if (block.page, block.first) in RUN_BY.keys() | STANDS_FOR.keys():
        return None
    what = needed(block)
    if what is None:
        return f"{where}: no test runs `{block.first}`; write one, and name it in tests/infra/doc_blocks.py"
    if not re.search(NEEDS[what][1], prose(page)):
        return f"{where}: say on the page that its commands need {what}"
    return None
