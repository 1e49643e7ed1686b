"""`.github/release.sh` and `.github/rollback.sh`, with a git of their own and a gh that answers what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GH = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
case "$1 $2" in
"run list") echo "${PASSED:-1}" ;;
"release view") [[ -n ${DRAFT:-} ]] && echo "$DRAFT" ;;
"release create")
    cp "${@: -1}" "$CALLS.sums"
    while [[ $1 != --notes-file ]]; do shift; done
    cp "$2" "$CALLS.notes"
    ;;
esac
"""
MAKE = """\
#!/usr/bin/env bash
printf 'make %s\\n' "$*" >>"$CALLS"
[[ $* != *release-notes ]] || printf '%s' "${NOTES-### Added}"
"""
PACKAGES = ("tl-fif-node.tar.gz", "tl-fif-router-arm64.zip", "tl-fif-router-x86_64.zip")


class Checkout:
    """A repository at version 1.2.3, on main, tagged, with its packages built."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root / "checkout", root / "calls"
        for folder in (".github", "dist", "dist/folder"):
            (self.root / folder).mkdir(parents=True)
        programs = root / "programs"
        programs.mkdir()
        for name, text in (("gh", GH), ("make", MAKE)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "HOME": str(root),
            **{f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        for script in ("release.sh", "rollback.sh"):
            shutil.copy(ROOT / ".github" / script, self.root / ".github")
        (self.root / "VERSION").write_text("1.2.3\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()
        self.git("tag", "v1.2.3")
        self.git("update-ref", "refs/remotes/origin/main", "HEAD")
        for name in PACKAGES:
            (self.root / "dist" / name).write_text(name)

    def git(self, *arguments: str) -> str:
        """Run git there."""
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self) -> None:
        """Commit what there is."""
        self.git("add", "VERSION", ".github")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of .github there."""
        command = [self.root / ".github" / script]
        return subprocess.run(
            command, env=self.environment | variables, capture_output=True, text=True, check=False, cwd="/"
        )

    def called(self, start: str = "") -> list[str]:
        """Return the calls of gh and make that begin so."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(start)]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Make one."""
    return Checkout(tmp_path)


def test_a_release_has_the_notes_the_packages_and_their_sums(checkout: Checkout) -> None:
    """By the tag's name; the sums are of every file."""
    done = checkout.run("release.sh")

    assert done.returncode == 0, done.stderr
    (call,) = checkout.called("release create")
    assert call.startswith("release create v1.2.3 --verify-tag --title v1.2.3 --notes-file ")
    assert call.split()[-4:-1] == [f"dist/{name}" for name in PACKAGES]
    assert call.endswith("/SHA256SUMS")
    assert checkout.calls.with_suffix(".notes").read_text() == "### Added"
    sums = checkout.calls.with_suffix(".sums").read_text().splitlines()
    assert [line.split()[1] for line in sums] == list(PACKAGES)


def test_ci_is_asked_about_this_very_commit(checkout: Checkout) -> None:
    """As it was pushed to main: a fork's branch of that name proves nothing."""
    checkout.run("release.sh")

    (call,) = checkout.called("run list")
    assert f"--workflow ci.yml --commit {checkout.git('rev-parse', 'HEAD')} --branch main --event push" in call


def refused(checkout: Checkout, words: str, **variables: str) -> None:
    """See that nothing is released, and why."""
    done = checkout.run("release.sh", **variables)

    assert done.returncode == 1
    assert words in done.stderr
    assert checkout.called("release create") == []


def test_a_commit_without_its_tag_is_refused(checkout: Checkout) -> None:
    """The tag is there, and is another commit."""
    checkout.commit()

    refused(checkout, "this commit is not v1.2.3")


def test_a_version_without_a_tag_is_refused(checkout: Checkout) -> None:
    """Somebody tagged something else than VERSION says."""
    checkout.git("tag", "--delete", "v1.2.3")
    checkout.git("tag", "v1.2.4")

    refused(checkout, "git tag v1.2.3 && git push origin v1.2.3")


def test_what_is_not_on_main_is_refused(checkout: Checkout) -> None:
    """A branch may carry a tag too."""
    checkout.commit()
    checkout.git("tag", "--force", "v1.2.3")

    refused(checkout, "v1.2.3 is not on main")


def test_what_ci_has_not_passed_is_refused(checkout: Checkout) -> None:
    """Not yet, or never."""
    refused(checkout, "ci has not passed for v1.2.3", PASSED="0")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_missing_is_refused(checkout: Checkout, name: str) -> None:
    """Each of them."""
    (checkout.root / "dist" / name).write_text("")

    refused(checkout, f"there is no dist/{name}. Run: make lambda-package")


def test_a_version_without_notes_is_refused(checkout: Checkout) -> None:
    """CHANGELOG.md has to say something."""
    refused(checkout, "CHANGELOG.md says nothing of 1.2.3", NOTES="")


def test_a_second_release_changes_nothing(checkout: Checkout) -> None:
    """It is not a failure: the workflow was started anew."""
    done = checkout.run("release.sh", DRAFT="false")

    assert done.returncode == 0
    assert "v1.2.3 is released already" in done.stdout
    assert checkout.called("release create") == checkout.called("release delete") == []


def test_a_draft_that_was_left_over_is_made_anew(checkout: Checkout) -> None:
    """Of a release that was cut off while it added its files."""
    assert checkout.run("release.sh", DRAFT="true").returncode == 0
    assert [call.split()[1] for call in checkout.called("release")] == ["view", "delete", "create"]


def test_the_default_goes_back_once(checkout: Checkout) -> None:
    """To before the last deployment, of the system of the usual name; GitHub shows the summary."""
    assert checkout.run("rollback.sh", TO="", TLFIF_NAME="", GITHUB_STEP_SUMMARY="/s").returncode == 0
    assert checkout.called() == ["make rollback ARGS=--name tl-fif --summary /s"]


def test_a_version_and_a_system_are_handed_on(checkout: Checkout) -> None:
    """As they were typed."""
    assert checkout.run("rollback.sh", TO="0.8.0", TLFIF_NAME="tl-two").returncode == 0
    assert checkout.called() == ["make rollback ARGS=--name tl-two --to 0.8.0"]


@pytest.mark.parametrize("to", ["0.8", "v0.8.0", "0.8.0; id", "$(id)", "0.8.0\n1.0.0", "--help", " 0.8.0", "00.1.2"])
def test_anything_else_is_no_version(checkout: Checkout, to: str) -> None:
    """It would reach a shell."""
    done = checkout.run("rollback.sh", TO=to)

    assert done.returncode == 2
    assert "write the version like 0.8.0" in done.stderr
    assert checkout.called() == []


@pytest.mark.parametrize("name", ["a b", "$(id)", "Tl", "-x"])
def test_anything_else_is_no_name(checkout: Checkout, name: str) -> None:
    """Nor this."""
    assert checkout.run("rollback.sh", TLFIF_NAME=name).returncode == 2
    assert checkout.called() == []


def test_a_rollback_that_fails_fails_the_workflow(checkout: Checkout) -> None:
    """Whatever make says."""
    (checkout.root.parent / "programs" / "make").write_text("#!/usr/bin/env bash\nexit 3\n")

    assert checkout.run("rollback.sh").returncode == 3
