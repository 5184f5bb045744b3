"""A release is cut whole or not at all, in a small repository with a package and a check of its own."""

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "packaging" / "release.py"
CHANGELOG = """# Changelog

## Unreleased

**A thing** is new.

### Upgrade notes

- `old` is `new`.

## 0.1.0 - 2025-01-01

First version.
"""
SETUP = """
import re
from pathlib import Path
from setuptools import setup
source = Path("projects/NPLP/nplp/__init__.py").read_text()
version = re.search('__version__ = "(.+)"', source).group(1)
setup(name="nplp", version=version, package_dir={"": "projects/NPLP"}, packages=["nplp"])
"""
CHECK = """
import sys
from pathlib import Path
if Path(__file__).with_name("fails").exists():
    sys.exit(1)
print("checked", Path(sys.argv[1]).name, *sys.argv[2:])
"""


@pytest.fixture(scope="module")
def release():
    """The script, as a module."""
    specification = importlib.util.spec_from_file_location("release_script", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def built(release, monkeypatch):
    """Wheels are made at once; return what the next ones hold, by folder, and their version."""
    contents = {}

    def build(sources, target):
        target.mkdir()
        found = re.search('__version__ = "(.+)"', (sources / release.HOME).read_text())
        version = contents.get("version", found[1])
        wheel = target / f"nplp-{version}-py3-none-any.whl"
        wheel.write_bytes(contents.get(target.name, b"the same"))
        return wheel

    monkeypatch.setattr(release, "build_wheel", build)
    return contents


def git(folder, *words):
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "A change")


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    files = {
        "projects/NPLP/nplp/__init__.py": '"""A package."""\n\n__version__ = "0.1.0"\n',
        "CHANGELOG.md": CHANGELOG,
        "setup.py": SETUP,
        "constraints.txt": "",
        ".gitignore": "dist/\n",
        "tools/packaging/check_wheel.py": CHECK,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(folder))
    git(folder, "config", "user.name", "Somebody")
    git(folder, "config", "user.email", "somebody@example.org")
    commit(folder)
    return folder


def state(folder):
    """Return all that a release may change."""
    files = {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return files, git(folder, "for-each-ref"), git(folder, "status", "--porcelain", "--branch")


def cut(release, repository, *words):
    """Run the command; return its exit code."""
    try:
        release.command_line([*words, "--repository", str(repository)])
    except SystemExit as end:
        return end.code
    return 0


def refused(release, repository, capsys, *words):
    """Return the one line with which a release is refused, which changes nothing."""
    before = state(repository)
    assert cut(release, repository, *words) == 2
    assert state(repository) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("release: ")
    return line


def test_a_release_is_one_commit_with_a_tag_and_the_wheel_that_was_tried(release, repository, capfd):
    assert cut(release, repository, "0.2.0", "--date", "2026-01-31") == 0
    said = capfd.readouterr().out
    assert (
        git(repository, "show", "--no-patch", "--format=%s by %an", "v0.2.0^{}")
        == "Release 0.2.0 by Somebody\n"
    )
    assert git(repository, "rev-parse", "v0.2.0^{}") == git(repository, "rev-parse", "main")
    assert git(repository, "cat-file", "-t", "v0.2.0") == "tag\n"
    assert git(repository, "rev-list", "--count", "HEAD") == "2\n"
    assert git(repository, "status", "--porcelain") == ""
    assert '__version__ = "0.2.0"' in (repository / release.HOME).read_text()
    heading = "## Unreleased\n\n## 0.2.0 - 2026-01-31\n"
    assert (repository / "CHANGELOG.md").read_text() == CHANGELOG.replace("## Unreleased\n", heading)
    (wheel,) = (repository / "dist").iterdir()
    assert wheel.name == "nplp-0.2.0-py3-none-any.whl"
    assert b"Version: 0.2.0" in zipfile.ZipFile(wheel).read("nplp-0.2.0.dist-info/METADATA")
    assert f"checked {wheel.name} --python {sys.executable} --installer  --constraints" in said
    assert "git push --atomic origin main v0.2.0" in said


def test_a_rehearsal_shows_the_change_and_makes_none(release, repository, built, capfd):
    before = state(repository)
    assert cut(release, repository, "0.2.0rc1", "--dry-run", "--python", "one", "--python", "two") == 0
    assert state(repository) == before
    said = capfd.readouterr().out
    assert '-__version__ = "0.1.0"\n+__version__ = "0.2.0rc1"\n' in said
    assert re.search(r"^\+## 0\.2\.0rc1 - \d{4}-\d\d-\d\d$", said, re.MULTILINE)
    assert "--python one" in said
    assert "--python two" in said
    assert said.endswith("nothing was changed\n")


def test_the_version_that_is_there_since_the_last_release_can_be_cut(release, repository, built):
    home = repository / release.HOME
    home.write_text(home.read_text().replace("0.1.0", "0.2.0"))
    commit(repository)
    assert cut(release, repository, "0.2.0") == 0
    assert git(repository, "diff", "--stat", "HEAD^", "HEAD", "--", release.HOME) == ""
    (repository / "CHANGELOG.md").write_text(CHANGELOG.replace("0.1.0", "0.2.0"))
    commit(repository)
    assert cut(release, repository, "0.3.0") == 0
    assert git(repository, "tag") == "v0.2.0\nv0.3.0\n"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("next", "is no version"),
        ("v0.2.0", "such as 0.2.0"),
        ("0.2", "such as 0.2.0"),
        ("0.2.0.dev1", "such as 0.2.0"),
        ("0.2.0+mine", "such as 0.2.0"),
        ("0.0.9", "0.0.9 is below the version of projects/NPLP/nplp/__init__.py, 0.1.0"),
        ("0.1.0", "has a section '## 0.1.0 - 2025-01-01' already"),
    ],
)
def test_a_wrong_version_is_refused(version, said, release, repository, capsys):
    assert said in refused(release, repository, capsys, version)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("## Unreleased", "## Later", "must have one section '## Unreleased', found 0"),
        ("# Changelog", "## Unreleased\n", "must have one section '## Unreleased', found 2"),
        (
            "**A thing** is new.\n\n### Upgrade notes\n\n- `old` is `new`.\n",
            "### Upgrade notes\n",
            "is empty",
        ),
        ("### Upgrade notes", "### Notes", "lacks '### Upgrade notes'"),
        ("- `old` is `new`.", "### More\n\nText.", "lacks '### Upgrade notes'"),
        ("## 0.1.0 - 2025-01-01", "## 0.2.0 (unreleased)", "has a section '## 0.2.0 (unreleased)' already"),
    ],
)
def test_a_changelog_that_tells_too_little_is_refused(before, after, said, release, repository, capsys):
    assert before in CHANGELOG
    (repository / "CHANGELOG.md").write_text(CHANGELOG.replace(before, after))
    commit(repository)
    assert said in refused(release, repository, capsys, "0.2.0")


def test_a_tree_that_is_not_clean_is_refused(release, repository, capsys):
    (repository / "notes.txt").touch()
    assert "the tree is not clean: commit or remove notes.txt" in refused(
        release, repository, capsys, "0.2.0"
    )
    (repository / "setup.py").write_text(SETUP + "\n")
    assert "setup.py and 1 more" in refused(release, repository, capsys, "0.2.0")


def test_a_tag_no_branch_a_wrong_day_and_no_repository_are_refused(release, repository, tmp_path, capsys):
    assert "--date must be a day" in refused(release, repository, capsys, "0.2.0", "--date", "tomorrow")
    git(repository, "tag", "v0.2.0")
    assert "the tag v0.2.0 is there already" in refused(release, repository, capsys, "0.2.0")
    git(repository, "switch", "--quiet", "--detach")
    assert "no branch is checked out" in refused(release, repository, capsys, "0.3.0")
    assert cut(release, tmp_path, "0.3.0") == 2
    assert "git status failed: fatal: not a git repository" in capsys.readouterr().err


def test_a_wheel_that_fails_is_not_released(release, repository, built, capsys):
    built["second"] = b"another"
    assert "two builds differ" in refused(release, repository, capsys, "0.2.0")
    built.clear()
    built["version"] = "0.1.0"
    assert "not of version 0.2.0" in refused(release, repository, capsys, "0.2.0")
    built.clear()
    (repository / "tools" / "packaging" / "fails").touch()
    commit(repository)
    assert "the wheel fails its check" in refused(release, repository, capsys, "0.2.0")


def test_a_wheel_that_cannot_be_built_is_not_released(release, repository, capsys):
    (repository / "setup.py").write_text("raise SystemExit('no such thing')\n")
    commit(repository)
    assert "the wheel cannot be built: " in refused(release, repository, capsys, "0.2.0")


def test_a_branch_that_moved_on_meanwhile_is_left_alone(release, repository, built, capsys, monkeypatch):
    def move_on(*_):
        (repository / "news.txt").touch()
        commit(repository)

    monkeypatch.setattr(release, "try_wheel", move_on)
    assert cut(release, repository, "0.2.0") == 2
    assert "git merge failed" in capsys.readouterr().err
    assert git(repository, "tag") == ""
    assert git(repository, "log", "-1", "--format=%s") == "A change\n"
    assert not (repository / "dist").exists()


def test_the_projects_own_version_and_changelog_are_as_the_command_reads_them(release):
    source = (ROOT / release.HOME).read_text(encoding="utf-8")
    now = release.Version(release.ASSIGNMENT.findall(source)[0])
    assert f'__version__ = "{now.major + 1}.0.0"' in release.with_version(
        source, release.Version(f"{now.major + 1}.0.0")
    )
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert len(release.UNRELEASED.findall(changelog)) == 1
    assert "(unreleased)" not in changelog
