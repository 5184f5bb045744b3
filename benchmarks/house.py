"""Measure the house: sizes, documentation and types, package cycles, and how far a reader has to go.

Prints a Markdown table of a source tree, beside that of an earlier tree where one is given:

    python benchmarks/house.py                                          # the present tree
    python benchmarks/house.py --tree OTHER/projects/NPLP --json        # another one, as JSON
    python benchmarks/house.py --before docs/results/house_before.json --write CONTRIBUTING.md

The last writes the table between the two markers in CONTRIBUTING.md. Rules of the figures stand below the
table; `house_reading.py` counts the files that a reader opens.
"""

import argparse
import ast
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from house_reading import Sources, files_to_follow, room_of, uses_of_a_loss
from nplp.circumstances import commit
from nplp.errors import UserError
from nplp_commands.parsing import OneLineParser, run_tool
from page_part import write_part

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ("library", "siblings", "tools", "all")
BEGIN = "<!-- begin: python benchmarks/house.py -->"
END = "<!-- end: python benchmarks/house.py -->"
SIBLINGS = ("nplp_synthetic", "nplp_experiments", "nplp/data/synthetic", "nplp/experiments")
SIBLING_TESTS = ("synthetic", "experiments")

RULES = """\
Lines are all lines of a file; p95 is the nearest rank. A function's lines are those from `def` to its end,
nested functions too. Public is what has no leading underscore; modules, classes, functions and methods
count as documented by a docstring. Arguments are those of all functions but `self` and `cls`; returns those
of all functions but `__init__`. A package is a folder or a module directly in `nplp`; imports within
functions count for cycles, those of `__main__.py` do not. The siblings are the renderer and the
experiments, wherever they lie; `nplp_commands` counts with the tools, whose bodies it holds. Tests of the
tools count for the library.

A reader starts at a function and opens the file of every project function, class and method that is used in
it, and so on: names, methods of `self`, and methods and attributes of objects whose class the type hints
say, of a protocol in every class that has its methods. (a) The files of `clustering` that are opened from
`startup_epsilon` on; `clustering/sweep` counts as one, its interface. (b) The files of `engine` and
`methods` that are opened from the hook's beginning of an iteration on; around it, the files of the other
packages that are opened where those are followed too. (c) The files of the library, and their lines, whose
code names the triplet loss or a piece of it outside its own file."""


@dataclass(frozen=True)
class Figures:
    """What is counted of the modules of a group."""

    files: int
    lines: int
    file_lines: tuple[int, int, int]
    function_lines: tuple[int, int, int]
    documented: float
    arguments_typed: float
    returns_typed: float
    tests_to_code: float | None


def main(args: argparse.Namespace) -> None:
    """Measure, and print or write what was asked for.

    Raises:
        UserError: if a folder or a file is not what it must be.
    """
    after = measure(args.tree)
    if args.json:
        sys.stdout.write(json.dumps(after, indent=2) + "\n")
        return
    before = json.loads(args.before.read_text(encoding="utf-8")) if args.before else None
    text = as_markdown(after, before)
    if args.write:
        write_part(args.write, BEGIN, text, END)
    else:
        sys.stdout.write(text + "\n")


def measure(tree: Path) -> dict[str, Any]:
    """Return all figures of a tree whose folder ``nplp`` is the library, as plain values.

    Raises:
        UserError: if the tree holds no such folder.
    """
    if not (tree / "nplp" / "__init__.py").is_file():
        raise UserError(f"{str(tree)!r} holds no package nplp: name a folder such as projects/NPLP")
    sources = Sources(tree)
    root = tree.resolve().parents[1]
    siblings = [path for path in sources.paths if is_sibling(path, tree)]
    tests, sibling_tests = tests_of(root)
    commands = [path for path in sources.paths if path.relative_to(tree).parts[0] == "nplp_commands"]
    paths = {
        "library": [path for path in sources.paths if path not in siblings and path not in commands],
        "siblings": siblings,
        "tools": commands + (sorted((root / "tools").rglob("*.py")) if (root / "tools").is_dir() else []),
    }
    paths["all"] = [path for group in paths.values() for path in group]
    test_lines = {"library": tests, "siblings": sibling_tests, "tools": None, "all": tests + sibling_tests}
    figures = {
        group: figures_of(paths[group], test_lines[group]).__dict__ for group in GROUPS if paths[group]
    }
    cycles = [" -> ".join(cycle) for cycle in package_cycles(sources)]
    eq4 = files_to_follow(sources, "eq4")
    iteration = files_to_follow(sources, "iteration")
    loss_files, loss_lines = uses_of_a_loss(sources, "triplet")
    return {
        "figures": figures,
        "cycles": cycles,
        "eq4": eq4,
        "iteration": iteration,
        "around_an_iteration": len(set(files_to_follow(sources, "around an iteration")) - set(iteration)),
        "a_loss": loss_files,
        "a_loss_lines": loss_lines,
        "commit": commit() if tree.resolve() == ROOT / "projects" / "NPLP" else None,
    }


def is_sibling(path: Path, tree: Path) -> bool:
    """Return whether a module belongs to the renderer or to the experiments."""
    return path.relative_to(tree).as_posix().startswith(tuple(f"{name}/" for name in SIBLINGS))


def tests_of(root: Path) -> tuple[int, int]:
    """Return the lines of the library's tests and those of the siblings'."""
    counts = [0, 0]
    for path in (root / "tests").rglob("*.py"):
        folder = path.relative_to(root / "tests").parts[0]
        if folder != "benchmarks":
            of_sibling = folder in SIBLING_TESTS or path.name.startswith("test_synthetic")
            counts[of_sibling] += len(lines_of(path))
    return counts[0], counts[1]


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def figures_of(paths: list[Path], test_lines: int | None) -> Figures:
    """Return what is counted of modules."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    lengths = [len(lines_of(path)) for path in paths]
    functions = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    documented = [ast.get_docstring(node) is not None for tree in trees for node in public_parts(tree)]
    arguments = [argument.annotation is not None for node in functions for argument in arguments_of(node)]
    returns = [node.returns is not None for node in functions if node.name != "__init__"]
    return Figures(
        files=len(paths),
        lines=sum(lengths),
        file_lines=spread(lengths),
        function_lines=spread([(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]),
        documented=share(documented),
        arguments_typed=share(arguments),
        returns_typed=share(returns),
        tests_to_code=None if test_lines is None else test_lines / sum(lengths),
    )


def public_parts(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    """Yield a module, and its public classes, functions and methods."""
    yield tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                        yield part


def arguments_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """Return the arguments that could have a type."""
    listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    listed += [argument for argument in (node.args.vararg, node.args.kwarg) if argument is not None]
    return [argument for argument in listed if argument.arg not in ("self", "cls")]


def spread(values: list[int]) -> tuple[int, int, int]:
    """Return the median, the 95th percentile and the greatest of values, by nearest rank; 0 of none."""
    ranked = sorted(values)
    if not ranked:
        return 0, 0, 0
    middle, high = (ranked[math.ceil(part * len(ranked)) - 1] for part in (0.5, 0.95))
    return middle, high, ranked[-1]


def share(values: list[bool]) -> float:
    """Return the share of what is true in percent; 100 of nothing."""
    return 100 * sum(values) / len(values) if values else 100.0


def package_cycles(sources: Sources) -> list[list[str]]:
    """Return the groups of packages that import each other, each by the packages of a shortest way round."""
    arrows: dict[str, set[str]] = {}
    for module in sources.modules:
        # Nothing imports an entry of `python -m`, which may start a command above its package.
        if module.endswith(".__main__"):
            continue
        own = room_of(module)
        for name in sources.imported(module):
            room = room_of(name)
            if "nplp" not in (own, room) and room != own:
                arrows.setdefault(own, set()).add(room)
    cycles, seen = [], set[str]()
    for start in sorted(arrows):
        way = shortest_way_round(arrows, start)
        if way and not seen & set(way):
            seen.update(way)
            cycles.append(way)
    return cycles


def shortest_way_round(arrows: dict[str, set[str]], start: str) -> list[str]:
    """Return the packages on a shortest way from one back to itself; nothing where there is none."""
    ways = [[start]]
    reached = {start}
    for way in ways:
        for name in sorted(arrows.get(way[-1], ())):
            if name == start:
                return [*way, start]
            if name not in reached:
                reached.add(name)
                ways.append([*way, name])
    return []


def as_markdown(after: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return the tables and their rules; ``before`` is what :func:`measure` gave of an earlier tree."""
    found = [("before", before), ("now", after)] if before else [("now", after)]
    header = ["", *(f"{group}, {name}" if before else group for group in GROUPS for name, _ in found)]
    rows = []
    for title, text in (
        ("files", lambda figures: f"{figures['files']}"),
        ("lines", lambda figures: f"{figures['lines']:,}"),
        ("lines a file: median / p95 / max", lambda figures: " / ".join(map(str, figures["file_lines"]))),
        (
            "lines a function: median / p95 / max",
            lambda figures: " / ".join(map(str, figures["function_lines"])),
        ),
        ("public parts documented", lambda figures: f"{figures['documented']:.0f}%"),
        ("arguments typed", lambda figures: f"{figures['arguments_typed']:.0f}%"),
        ("returns typed", lambda figures: f"{figures['returns_typed']:.0f}%"),
        (
            "test lines : code lines",
            lambda figures: "-" if figures["tests_to_code"] is None else f"{figures['tests_to_code']:.2f}",
        ),
    ):
        cells = [
            text(tree["figures"][group]) if group in tree["figures"] else "-"
            for group in GROUPS
            for _, tree in found
        ]
        rows.append([title, *cells])
    counts = [
        ["package cycles", *(f"{len(tree['cycles'])}{listed(tree['cycles'])}" for _, tree in found)],
        ["(a) files to follow eq. 4", *(str(len(tree["eq4"])) for _, tree in found)],
        [
            "(b) files of an iteration (files around them)",
            *(f"{len(tree['iteration'])} ({tree['around_an_iteration']})" for _, tree in found),
        ],
        [
            "(c) files that name a loss outside its own (lines)",
            *(f"{len(tree['a_loss'])} ({tree['a_loss_lines']})" for _, tree in found),
        ],
    ]
    last = [table(header, rows), table(["", *(name for name, _ in found)], counts)]
    files = [
        f"({letter}) {', '.join(f'`{name}`' for name in after[count])}"
        for letter, count in (("a", "eq4"), ("b", "iteration"), ("c", "a_loss"))
    ]
    return "\n\n".join([*last, f"Now: {'; '.join(files)}.", RULES])


def listed(cycles: list[str]) -> str:
    """Return the cycles in brackets; nothing of none."""
    return f" ({'; '.join(cycles)})" if cycles else ""


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="house", description=__doc__)
    add = parser.add_argument
    add("--tree", type=Path, default=ROOT / "projects" / "NPLP", metavar="DIR", help="the folder of nplp")
    add("--before", type=Path, metavar="FILE", help="what --json gave of an earlier tree")
    add("--json", action="store_true", help="print all figures, and which files were counted, as JSON")
    add("--write", type=Path, metavar="FILE", help="write the table between the markers of this file")
    return parser


if __name__ == "__main__":
    run_tool(build_parser(), main)
