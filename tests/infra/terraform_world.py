"""Terraform for tests: found, kept off the network where a mirror has the provider, and run on copies of terraform/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.infra.emulated_aws import EmulatedAws

REPOSITORY: Final = Path(__file__).parents[2]
FOLDER: Final = REPOSITORY / "terraform"
PROFILES: Final = tuple(sorted(path.stem for path in (FOLDER / "profiles").glob("*.tfvars")))
MODULES: Final = tuple(sorted(path.name for path in (FOLDER / "modules").iterdir() if path.is_dir()))
IMAGE: Final = "image"
"""The root of its own that bakes the GPU's image, in a folder of this name."""

DELIVERY: Final = "delivery"
"""The root of its own with the pipeline from a push to a deployed system, likewise."""

ROOTS: Final = (IMAGE, DELIVERY)
PLANS: Final = (*PROFILES, *ROOTS)
"""What there is a plan of: both profiles of the system's root, and the other two roots."""

DELIVERY_VARIABLES: Final = {
    "repository": "owner/tl-fif",
    "api_url": "https://api.example.com",
    "cognito_client_id": "app",
    "alert_email": "alerts@example.com",
    "github_actions": "true",
}
"""What the pipeline's root is planned with."""

REGION: Final = "eu-central-1"

PROVIDER: Final = "registry.terraform.io/hashicorp/aws"
_BINARY: Final = "*/*/terraform-provider-aws_v5*"  # version and platform; the name is the provider's
_REGISTRY: Final = "https://registry.terraform.io/.well-known/terraform.json"

_AT_ONCE: Final = "-parallelism=40"  # it waits for AWS all the time, and AWS is here

_UNTRACKED: Final = shutil.ignore_patterns(".terraform", ".terraform.lock.hcl", "*.tfstate*", "*.tfplan", "__pycache__")


class TerraformFailed(Exception):
    """A command of Terraform failed; the message is its output."""


def _usual_places() -> Iterator[Path]:
    """Yield where a tree of providers lies on most machines: Terraform's own places, then whatever stands in /opt."""
    yield Path.home() / ".terraform.d" / "plugins"
    yield Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "terraform" / "plugins"
    for folder in ("/usr/local/share", "/usr/share"):
        yield Path(folder, "terraform", "plugins")
    yield from sorted(Path("/opt").glob("*"))


def find_mirror() -> Path | None:
    """Return the folder with a tree of providers that has ours: `$TF_PLUGIN_MIRROR`, or the first of the usual places.

    Raises:
        RuntimeError: the setting names a folder without the provider.
    """
    named = os.environ.get("TF_PLUGIN_MIRROR")
    for place in [Path(named)] if named else _usual_places():
        if any((place / PROVIDER).glob(_BINARY)):
            return place
    if named:
        raise RuntimeError(
            f"TF_PLUGIN_MIRROR names {named}, where no {PROVIDER}/{_BINARY} is; name its folder or unset it"
        )
    return None


def _is_registry_there() -> bool:
    try:
        return httpx.get(_REGISTRY, timeout=5).is_success
    except httpx.HTTPError:
        return False


@cache
def program() -> str:
    """Return Terraform's path; skip where it is missing, or where its provider can be had from nowhere."""
    found = shutil.which("terraform")
    if found is None:
        pytest.skip("terraform is not on the PATH; see terraform/README.md")
    if find_mirror() is None and not _is_registry_there():
        pytest.skip(f"no {PROVIDER} 5 lies on this machine and its registry does not answer; set TF_PLUGIN_MIRROR")
    return found


def _cli_config() -> str:
    """Return Terraform's own settings: no question for updates, providers from the mirror where there is one."""
    mirror = find_mirror()
    text = "disable_checkpoint = true\n"
    if mirror is not None:
        text += f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
    return text


def root(profile: str) -> str:
    """Return the folder of terraform/ that a profile is applied in."""
    return profile if profile in ROOTS else "."


class Workspace:
    """A copy of terraform/ in which Terraform runs, with links to what it reads of the repository beside it.

    Args:
        folder: an empty folder.
        aws: an emulated AWS; without it, nothing can be planned or applied in the root.
        package: the Lambda zip, for x86_64; without one, a file of a few bytes stands in its place.

    Attributes:
        folder: the copy.
        archive: what stands in for the archive that the image is made of.
    """

    def __init__(self, folder: Path, aws: EmulatedAws | None = None, package: Path | None = None) -> None:
        self.folder = folder / FOLDER.name
        shutil.copytree(FOLDER, self.folder, ignore=_UNTRACKED)
        for path in REPOSITORY.iterdir():
            if path != FOLDER and path.name != "dist" and not path.name.startswith("."):
                (folder / path.name).symlink_to(path)
        (folder / "terraform.rc").write_text(_cli_config(), encoding="utf-8")
        self._aws = aws
        self._variables = {"alert_email": "alerts@example.com", "package": str(package or folder / "package.zip")}
        if package is None:
            (folder / "package.zip").write_bytes(b"no zip, but enough for a plan")
        else:
            self._variables["architecture"] = "x86_64"
        self.archive = folder / "tl-fif-node.tar.gz"
        self.archive.write_bytes(b"no archive, but enough for a plan")

    def run(self, *arguments: str, within: str = ".") -> str:
        """Run a command of Terraform in a folder of the copy and return what it prints.

        Raises:
            TerraformFailed: with what it said.
        """
        done = subprocess.run(
            [program(), *arguments],
            cwd=self.folder / within,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TerraformFailed(f"terraform {arguments[0]} in {within}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def init(self, within: str = ".") -> None:
        """Fetch provider and modules; has to go before everything else.

        Raises:
            TerraformFailed: see `run`.
        """
        self.run("init", "-backend=false", "-input=false", "-no-color", within=within)

    def plan(self, profile: str) -> dict[str, Any]:
        """Return the plan of a profile as `terraform show -json` has it, and leave the plan in `PROFILE.tfplan`.

        `IMAGE` and `DELIVERY` count as profiles here and below: those of their own roots.

        Raises:
            TerraformFailed: see `run`.
        """
        out, within = f"{profile}.tfplan", root(profile)
        self.run("plan", "-input=false", "-no-color", f"-out={out}", *self._options(profile), within=within)
        shown: dict[str, Any] = json.loads(self.run("show", "-json", out, within=within))
        return shown

    def apply(self, profile: str) -> None:
        """Carry out the last plan of a profile.

        Raises:
            TerraformFailed: see `run`.
        """
        self.run("apply", "-input=false", "-no-color", _AT_ONCE, f"{profile}.tfplan", within=root(profile))

    def destroy(self, profile: str) -> None:
        """Remove it again.

        Raises:
            TerraformFailed: see `run`.
        """
        options = ["-auto-approve", "-input=false", "-no-color", _AT_ONCE, *self._options(profile)]
        self.run("destroy", *options, within=root(profile))

    def outputs(self, within: str = ".") -> dict[str, Any]:
        """Return the values of the outputs of what was applied."""
        printed = json.loads(self.run("output", "-json", within=within))
        return {name: each["value"] for name, each in printed.items()}

    def state(self, within: str = ".") -> list[str]:
        """Return the address of everything that was applied."""
        return self.run("state", "list", within=within).splitlines()

    def own(self, name: str) -> Path:
        """Put a copy, which can be changed, in the place of the link to a folder of the repository; return it."""
        path = self.folder.parent / name
        path.unlink()
        return Path(shutil.copytree(REPOSITORY / name, path))

    def _environment(self) -> dict[str, str]:
        """Return an environment with nobody's credentials, in which every call goes to the emulated AWS, or nowhere."""
        ours = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return ours | {
            "TF_CLI_CONFIG_FILE": str(self.folder.parent / "terraform.rc"),
            "TF_IN_AUTOMATION": "1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self._aws.endpoint if self._aws else "http://127.0.0.1:1",  # where nobody listens
            "AWS_MAX_ATTEMPTS": "1",  # what is not answered now never is
        }

    def _options(self, profile: str) -> list[str]:
        if profile == IMAGE:
            return [f"-var=archive={self.archive}"]
        if profile == DELIVERY:
            return [f"-var={name}={value}" for name, value in DELIVERY_VARIABLES.items()]
        variables = self._variables
        if profile == "seed" and self._aws:
            variables = variables | {"tls_domain": f"gpu.{self._aws.zone}", "tls_zone_id": self._aws.zone_id}
        return [f"-var-file=profiles/{profile}.tfvars", *(f"-var={name}={value}" for name, value in variables.items())]


def resources(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every resource that a plan would have in the end: its address to type and values."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [plan["planned_values"]["root_module"]]
    while waiting:
        module = waiting.pop()
        waiting += module.get("child_modules", [])
        found |= {each["address"]: each for each in module.get("resources", []) if each["mode"] == "managed"}
    return found
