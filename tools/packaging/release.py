#!/usr/bin/env python
"""Cut a release: version, changelog, a wheel that is tested, one commit and its tag.

The work is done in a clone in a temporary folder. The repository changes at the very end, and only if all
went well.
"""

import argparse
import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from pathlib import Path

from packaging.version import InvalidVersion, Version

from nplp_commands.parsing import OneLineParser, run_tool

ROOT = Path(__file__).parents[2]
HOME = "projects/NPLP/nplp/__init__.py"
"""The one home of the version; setup.py and ``nplp --version`` read it there."""
CHANGELOG = "CHANGELOG.md"
CHECK = "tools/packaging/check_wheel.py"
NOTES = "### Upgrade notes"
ASSIGNMENT = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
UNRELEASED = re.compile(r"^## Unreleased *\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
EPILOG = """\
Before anything is built: the tree is clean, the version has neither a tag nor a section of the changelog and
is not below the last one, and "## Unreleased" has text and "### Upgrade notes". The wheel is built in two
folders, which have to give the same bytes, and tried in a new environment of each --python.

examples:
  make release VERSION=0.2.0 ARGS=--dry-run
  python tools/packaging/release.py 0.2.0 --python python3.10 --python python3.12
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="release", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("version", help="such as 0.2.0 or 0.3.0rc1")
    add("--dry-run", action="store_true", help="do all of it in the clone, show the change, keep nothing")
    add("--date", help="of the release, YYYY-MM-DD (default: today in UTC)")
    add("--python", action="append", metavar="PYTHON", help="to try the wheel with (default: this one)")
    add("--installer", default="", metavar="COMMAND", help="in place of pip for that, such as 'uv pip'")
    add("--repository", type=Path, default=ROOT, metavar="DIR", help="default: that of this script")
    return parser


def git(folder: Path, *words: str) -> str:
    """Return what a git command says.

    Raises:
        ValueError: if it fails, with the last line of its complaint.
    """
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise ValueError(f"git {words[0]} failed: {complaint[-1]}")
    return done.stdout.strip()


def read_version(text: str) -> Version:
    """Return a version that a release may have.

    Raises:
        ValueError: if it is no version, is not written as packages write it, or is one of development.
    """
    try:
        version = Version(text)
    except InvalidVersion:
        raise ValueError(f"{text!r} is no version: give three numbers, such as 0.2.0") from None
    if str(version) != text or version.is_devrelease or version.local or len(version.release) != 3:
        raise ValueError(
            f"{text!r} is no version of a release: give three numbers, such as 0.2.0 or 0.3.0rc1"
        )
    return version


def read_date(text: str | None) -> str:
    """Return the day of the release.

    Raises:
        ValueError: if it is no day.
    """
    if text is None:
        return datetime.now(timezone.utc).date().isoformat()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"--date must be a day such as 2026-01-31, got {text!r}") from None


def check_repository(repository: Path, version: Version) -> None:
    """Look whether a release can be made of what is committed.

    Raises:
        ValueError: if files differ from the last commit, no branch is checked out, the tag is there, or git
            does not know who commits.
    """
    changed = git(repository, "status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(f"the tree is not clean: commit or remove {changed[0].split(maxsplit=1)[1]}{more}")
    if not git(repository, "branch", "--show-current"):
        raise ValueError("no branch is checked out: switch to the one that is released")
    if git(repository, "tag", "--list", f"v{version}"):
        raise ValueError(f"the tag v{version} is there already: choose the next version")
    git(repository, "var", "GIT_COMMITTER_IDENT")


def with_version(source: str, version: Version) -> str:
    """Return the text of :data:`HOME` with the version set.

    Raises:
        ValueError: if it has no version, or a later one.
    """
    found = ASSIGNMENT.findall(source)
    if len(found) != 1:
        raise ValueError(f"{HOME} must set __version__ once, found {len(found)}")
    if Version(found[0]) > version:
        raise ValueError(f"{version} is below the version of {HOME}, {found[0]}")
    return ASSIGNMENT.sub(f'__version__ = "{version}"', source)


def with_section(changelog: str, version: Version, day: str) -> str:
    """Return the changelog with what was unreleased under the version, below a new, empty "Unreleased".

    Raises:
        ValueError: if the version has a section, or nothing is unreleased, or that lacks its upgrade notes.
    """
    headings = re.findall(r"^## +\S.*$", changelog, re.MULTILINE)
    taken = [line for line in headings if line.split()[1] in (str(version), f"[{version}]")]
    if taken:
        raise ValueError(f"{CHANGELOG} has a section {taken[0]!r} already: move its text to '## Unreleased'")
    sections = UNRELEASED.findall(changelog)
    if len(sections) != 1:
        raise ValueError(f"{CHANGELOG} must have one section '## Unreleased', found {len(sections)}")
    if not re.sub(r"^#+ .*$", "", sections[0], flags=re.MULTILINE).strip():
        raise ValueError(f"'## Unreleased' of {CHANGELOG} is empty: say what changed")
    _, notes, text = sections[0].partition(f"{NOTES}\n")
    if not notes or not re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0].strip():
        raise ValueError(
            f"'## Unreleased' of {CHANGELOG} lacks {NOTES!r}: say there what a user has to change"
        )
    heading = f"## Unreleased\n\n## {version} - {day}\n"
    return UNRELEASED.sub(lambda section: heading + section[1], changelog)


def show_change(name: str, before: str, after: str) -> None:
    """Print the lines of a file that change."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, n=1, lineterm="")
    say("\n".join(lines) or f"{name} stays as it is")


def say(text: str) -> None:
    """Print at once, between the lines of other programs."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nplp-release-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def commit_release(repository: Path, clone: Path, version: Version, changes: dict[str, str]) -> None:
    """Clone the repository, and commit and tag the release there, in the name of who releases."""
    git(repository, "clone", "--quiet", "--no-tags", str(repository), str(clone))
    for key in ("user.name", "user.email"):
        if value := git(repository, "config", "--default", "", "--get", key):
            git(clone, "config", key, value)
    for name, text in changes.items():
        (clone / name).write_text(text, encoding="utf-8", newline="\n")
    git(clone, "commit", "--quiet", "--all", "--message", f"Release {version}")
    git(clone, "tag", "--annotate", f"v{version}", "--message", f"NPLP {version}")


def build_wheel(sources: Path, target: Path) -> Path:
    """Build the wheel of a checkout, as ``make wheel`` does.

    Raises:
        ValueError: if that fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(sources)],
        env={**os.environ, "SOURCE_DATE_EPOCH": git(sources, "log", "-1", "--format=%ct")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise ValueError(f"the wheel cannot be built: {complaint[-1]}")
    (wheel,) = target.glob("*.whl")
    return wheel


def build_twice(clone: Path, folder: Path, version: Version) -> Path:
    """Return the wheel of a clone, which a second clone of it gives too.

    Raises:
        ValueError: if the second differs, or is of another version.
    """
    again = folder / "a second clone"
    git(clone, "clone", "--quiet", str(clone), str(again))
    wheels = [build_wheel(clone, folder / "first"), build_wheel(again, folder / "second")]
    sums = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
    if sums[0] != sums[1] or wheels[0].name != wheels[1].name:
        raise ValueError(f"two builds differ: sha256 {sums[0]} and {sums[1]}")
    if wheels[0].name.split("-")[1] != str(version):
        raise ValueError(f"the wheel is {wheels[0].name}, not of version {version}")
    say(f"ok  two builds are one file: {sums[0]}  {wheels[0].name}")
    return wheels[0]


def try_wheel(wheel: Path, clone: Path, pythons: Sequence[str], installer: str) -> None:
    """Try the wheel in new environments.

    Raises:
        ValueError: if one of them fails; what failed stands above.
    """
    for python in pythons:
        words = [sys.executable, str(clone / CHECK), str(wheel), "--python", python, "--installer", installer]
        done = subprocess.run([*words, "--constraints", str(clone / "constraints.txt")], check=False)
        if done.returncode:
            raise ValueError(f"the wheel fails its check with {python}: nothing is released")


def take_over(repository: Path, clone: Path, wheel: Path, version: Version) -> None:
    """Bring commit and tag into the repository, and the wheel into its dist folder.

    Raises:
        ValueError: if the branch moved on meanwhile; nothing is changed then.
    """
    git(repository, "fetch", "--quiet", "--no-tags", str(clone), "HEAD")
    git(repository, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
    tag = f"refs/tags/v{version}"
    git(repository, "fetch", "--quiet", "--no-tags", str(clone), f"{tag}:{tag}")
    (repository / "dist").mkdir(exist_ok=True)
    shutil.copy(wheel, repository / "dist")


def main(args: argparse.Namespace) -> None:
    """Check, change, build, try, and keep it unless it is a rehearsal."""
    repository, version, day = args.repository.resolve(), read_version(args.version), read_date(args.date)
    check_repository(repository, version)
    before = {name: (repository / name).read_text(encoding="utf-8") for name in (HOME, CHANGELOG)}
    after = {
        HOME: with_version(before[HOME], version),
        CHANGELOG: with_section(before[CHANGELOG], version, day),
    }
    say(f"ok  {version} can be released from {git(repository, 'branch', '--show-current')}")
    for name, text in after.items():
        show_change(name, before[name], text)
    with temporary_folder() as folder:
        clone = folder / "clone"
        commit_release(repository, clone, version, after)
        wheel = build_twice(clone, folder, version)
        try_wheel(wheel, clone, args.python or [sys.executable], args.installer)
        if args.dry_run:
            say(f"would commit 'Release {version}' and tag it v{version}; nothing was changed")
            return
        take_over(repository, clone, wheel, version)
    branch = git(repository, "branch", "--show-current")
    say(f"ok  committed and tagged v{version}; dist/{wheel.name} is what was tested")
    say(f"Publish it: git push --atomic origin {branch} v{version}")


def command_line(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main, argv)


if __name__ == "__main__":
    command_line()
