"""The commit of a measurement is that of the code that made it."""

import importlib.util
import re
import shutil
import subprocess

import pytest

from nplp import circumstances

git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@git
def test_the_commit_is_that_of_the_checkout():
    assert circumstances.commit() is None or re.fullmatch(r"[0-9a-f]{12}(-dirty)?", circumstances.commit())


@git
def test_a_repository_that_only_surrounds_the_package_is_not_reported(tmp_path):
    packages = tmp_path / "env" / "lib" / "site-packages" / "nplp"
    packages.mkdir(parents=True)
    installed = packages / "circumstances.py"
    shutil.copyfile(circumstances.__file__, installed)
    (tmp_path / "theirs.txt").write_text("theirs\n")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "theirs.txt"], [*identity, "commit", "-qm", "theirs"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    spec = importlib.util.spec_from_file_location("installed_circumstances", installed)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.commit() is None
