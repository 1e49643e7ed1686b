"""Both profiles, the image and the delivery, each applied to an emulated AWS of its own.

Most of that is waiting, so it runs beside other tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from local.run_directory import RunDirectory
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.terraform_world import PLANS, Workspace, root


class Deployment:
    """A profile, or another root, on its way to an emulated AWS, or there.

    Attributes:
        aws: the emulated AWS.
        workspace: where Terraform runs.
        planned: the plan before anything was made.
    """

    def __init__(self, profile: str, aws: EmulatedAws, workspace: Workspace, threads: ThreadPoolExecutor) -> None:
        self._profile = profile
        self._threads = threads
        self.workspace = workspace
        self._end: Future[list[str]] | None = None
        self.aws = aws
        self.planned: dict[str, Any] = {}
        self._begin = threads.submit(self._apply)
        self._again = threads.submit(self._plan_again)

    def _apply(self) -> dict[str, Any]:
        self.workspace.init(root(self._profile))
        self.planned = self.workspace.plan(self._profile)
        self.workspace.apply(self._profile)
        return self.workspace.outputs(root(self._profile))

    def _plan_again(self) -> dict[str, Any]:
        self._begin.result()
        return self.workspace.plan(self._profile)

    def _destroy(self) -> list[str]:
        self._again.result()
        self.workspace.destroy(self._profile)
        return self.workspace.state(root(self._profile))

    def outputs(self) -> dict[str, Any]:
        """Wait until it is applied; return the values of Terraform's outputs.

        Raises:
            TerraformFailed: it cannot be applied.
        """
        return self._begin.result()

    def plan_again(self) -> dict[str, Any]:
        """Return another plan of what is applied already, in which every value is known."""
        return self._again.result()

    def state(self) -> list[str]:
        """Return the addresses of what was applied."""
        self.outputs()
        return self.workspace.state(root(self._profile))

    def begin_to_destroy(self) -> None:
        """Begin to remove it all; harmless when that has begun already."""
        self._end = self._end or self._threads.submit(self._destroy)

    def destroyed(self) -> list[str]:
        """Wait until it is removed; return the addresses of what Terraform still knows of.

        Raises:
            TerraformFailed: it cannot be destroyed.
        """
        self.begin_to_destroy()
        assert self._end is not None
        return self._end.result()


@contextmanager
def applying(folder: Path, package: Path | None) -> Iterator[dict[str, Deployment]]:
    """Begin to apply every profile, with one Lambda package for all, and the other roots."""
    with ExitStack() as stack:
        servers = {}
        for profile in PLANS:
            aws = EmulatedAws(stack.enter_context(RunDirectory(f"tl-fif-test-{profile}-")).path)
            aws.launch()
            stack.callback(aws.stop)
            servers[profile] = aws
        # A thread for each step that may have to wait for the one before.
        threads = stack.enter_context(ThreadPoolExecutor(3 * len(PLANS), thread_name_prefix="terraform"))
        made = {}
        for profile, aws in servers.items():
            aws.wait_ready()
            (folder / profile).mkdir()
            workspace = Workspace(folder / profile, aws, package)
            made[profile] = Deployment(profile, aws, workspace, threads)
        yield made
