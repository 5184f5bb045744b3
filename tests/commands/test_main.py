"""The command nplp: its help, its names, and mistyped words."""

import argparse
import os
import subprocess
import sys

import pytest

import nplp as package
from nplp.clustering import estimate_pseudo_labels
from nplp_commands import cluster, train
from nplp_commands.main import COMMANDS, GROUPS

LIGHT = """
import sys
from nplp_commands.main import command_line
try:
    command_line()
except SystemExit as end:
    code = end.code
heavy = {"torch", "fastreid", "faiss", "nplp", "polars"} & set(sys.modules)
assert not heavy, heavy
"""


def run(*words, code=LIGHT, cwd=None):
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_names_every_command_by_purpose(nplp):
    code, shown = nplp("--help")
    assert code == 0
    lines = shown.out.splitlines()
    for name, (_, text) in COMMANDS.items():
        assert [line.split() for line in lines].count([name, *text.split()]) == 1
    titles = [lines.index(f"{title}:") for title in GROUPS]
    assert titles == sorted(titles)
    assert nplp() == (0, shown)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_called_as_it_was_typed(command):
    """In a process of its own, which imports no library for it."""
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: nplp {command} ")
    assert "example" in done.stdout
    assert f"nplp {command} " in done.stdout.split("example")[1]
    assert "tools/" not in done.stdout.split("example")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "there is no command 'trian': did you mean 'train'?"),
        (["Embed"], "there is no command 'Embed': did you mean 'embed'?"),
        (["qqqq"], "there is no command 'qqqq': there are "),
        (["--verbose"], "there is no option '--verbose' before the command"),
    ],
)
def test_a_mistyped_command_is_one_line_at_once(words, said):
    done = run(*words)
    assert said in done.stderr
    assert done.stderr.startswith("nplp: ")
    assert (done.stderr.count("\n"), done.stdout) == (1, "")


def test_the_version_is_shown_at_once():
    assert run("--version").stdout == f"nplp {package.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "nplp train: --config-file is missing"),
        (["zoo", "info"], "nplp zoo info: the following arguments are required: where"),
        (["cluster", "a.npy"], "nplp cluster: the following arguments are required: --out"),
        (["reproduce"], "nplp reproduce: no experiment was named"),
        (["report", "absent"], "nplp report: "),
    ],
)
def test_mistakes_name_the_command_as_it_was_typed(nplp, words, said):
    code, shown = nplp(*words)
    assert code == 2
    assert shown.err.startswith(said)
    assert shown.err.count("\n") == 1


def test_an_interrupted_training_goes_on_as_it_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["nplp train", "--config-file", "a b.yml", "--overwrite", "SEED", "1"])
    said = train.how_to_go_on(argparse.Namespace(eval_only=False))
    assert said.endswith("go on with\n  nplp train --resume --config-file 'a b.yml' SEED 1")
    monkeypatch.setattr("sys.argv", ["tools/train_net.py", "--config-file", "a.yml"])
    said = train.how_to_go_on(argparse.Namespace(eval_only=False))
    assert said.endswith("\n  python tools/train_net.py --resume --config-file a.yml")


def test_tools_keep_their_names(monkeypatch):
    monkeypatch.setattr("sys.argv", ["tools/train_net.py"])
    text = train.build_parser().format_help()
    assert text.startswith("usage: train_net ")
    assert "python tools/train_net.py --config-file" in text


def test_reproducing_outside_a_checkout_says_that_it_needs_one(nplp, tmp_path, monkeypatch):
    monkeypatch.setattr("nplp_experiments.plan.PACKAGES", tmp_path / "site-packages" / "nplp")
    monkeypatch.chdir(tmp_path)
    code, shown = nplp("reproduce", "table1", "--dry-run")
    assert code == 2
    assert "call this in a checkout of the project" in shown.err
    assert shown.err.count("\n") == 1
    assert os.listdir() == []


def test_the_defaults_in_the_help_of_cluster_are_those_of_the_function():
    assert {
        name: default
        for name, default in estimate_pseudo_labels.__kwdefaults__.items()
        if name not in ("progress", "constraints", "also_at")
    } == cluster._DEFAULTS
