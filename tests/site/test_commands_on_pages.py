"""Every command on a page is one that the project's own parsers take, with keys and files that are there."""

import argparse
import re
from importlib import import_module

import pytest
from torch.distributed.run import get_args_parser

from nplp.config import default_config
from nplp.config.dotted import flat
from nplp_commands.configurations import find_configuration
from nplp_commands.main import COMMANDS
from nplp_commands.parsing import TYPED
from site_pages import ROOT, commands, inline_commands

REASONS = {
    "cd": "the shell's own",
    "git": "fetches the project",
    "source": "the shell's own",
    "export": "the shell's own",
    "pip": "installs",
    "pytest": "runs the tests",
    "tensorboard": "a program of others",
    "trtexec": "needs a GPU and TensorRT",
}
"""First words of commands that are not parsed here, and why."""
PROGRAMS = {
    **{words.removeprefix("python "): command.split()[1] for words, command in TYPED.items()},
    "examples/own_method.py": "train",
    "-m nplp_experiments": "reproduce",
}
"""What may follow ``python``, and the command that it is."""
MADE = ("logs/", "zoo/", "runs/", "bundle/")
"""Where a run leaves its files: they are not in the repository."""


def shown(value):
    """Return how a page or the words of a command are called in the names of the tests."""
    return value if isinstance(value, str) else " ".join(value)[:60]


def command_of(words):
    """Return the command of ``nplp`` that is meant and the words after it; no command for other programs."""
    if words[0] == "nplp":
        return words[1], words[2:]
    if words[0] == "torchrun":
        started = get_args_parser().parse_args(words[1:])
        program = ["-m"] * started.module + [started.training_script]
        return command_of(["python", *program, *started.training_script_args])
    if words[0] == "python":
        length = 2 if words[1] == "-m" else 1
        program = " ".join(words[1 : 1 + length])
        program = re.sub(r"^-m nplp_commands\.(\w+)$", r"-m \1", program)
        command = PROGRAMS.get(program, program.removeprefix("-m "))
        return (command if command in COMMANDS else ""), words[1 + length :]
    return "", words


def parse(command, words):
    """Parse the words as the command does."""
    parser = import_module(COMMANDS[command][0]).build_parser()
    try:
        return parser.parse_args(words)
    except SystemExit as end:
        if end.code:  # 0 after --help
            pytest.fail(f"nplp {command} does not take {words}")
        return argparse.Namespace()


def test_there_are_commands_to_look_at():
    assert len(commands()) > 80
    assert ("docs/start.md", ["nplp", "doctor", "SynthStation"]) in commands()


@pytest.mark.parametrize(("page", "words"), commands(), ids=shown)
def test_a_command_is_parsed(page, words):
    command, rest = command_of(words)
    if command or words[0] == "nplp":
        assert command in COMMANDS or command.startswith("--"), f"{page}: there is no nplp {command}"
        if command in COMMANDS:
            check_keys_and_files(page, parse(command, rest))
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), f"{page}: there is no {words[1]}"
        check_options_of_a_program(words[1:])
    else:
        assert words[0] in REASONS, f"{page}: parse {words} here, or say in REASONS why not"


def check_keys_and_files(page, args):
    """Check that configurations exist, and that each KEY is one."""
    file = getattr(args, "config_file", "")
    named = [(file, False)] if file else []
    named += [(overlay, True) for overlay in getattr(args, "overlay", []) or []]
    for name, overlay in named:
        there = name.startswith(MADE) or (ROOT / name).is_file()
        assert there or find_configuration(name, overlays=overlay) != name, f"{page}: there is no {name}"
    pairs = getattr(args, "opts", [])
    assert len(pairs) % 2 == 0, f"{page}: {pairs} are no pairs"
    for key in pairs[::2]:
        if not key.startswith("NPLP.PROTOTYPES."):  # registered by examples/own_method.py alone
            assert key in flat(default_config()), f"{page}: there is no key {key}"


def check_options_of_a_program(words):
    """Check that each option stands in the program, or in a module beside it that parses for it."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / words[0]).parent.glob("*.py")]
    for word in words[1:]:
        if word.startswith("--") and word != "--help":
            assert any(f'"{word}"' in source for source in sources), f"{words[0]} has no option {word}"


@pytest.mark.parametrize(("page", "words"), inline_commands(), ids=shown)
def test_a_command_in_a_sentence_has_the_options_that_it_names(page, words):
    if words[1].startswith("--"):
        return
    assert words[1] in COMMANDS, f"{page}: there is no nplp {words[1]}"
    parser = import_module(COMMANDS[words[1]][0]).build_parser()
    known = parser.format_help()
    for action in parser._actions:
        for choice in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            known += choice.format_help()
    assert [word for word in words if word.startswith("--") and word not in known] == []
