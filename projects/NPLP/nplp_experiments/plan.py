"""From experiments to runs: what is the same is run once, what begins alike branches off."""

import argparse
import ast
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from fastreid.config import CfgNode

from nplp.config.dotted import value_at
from nplp.engine.setup import load_config
from nplp.errors import UserError
from nplp_commands.configurations import PACKED
from nplp_experiments.definitions import (
    FULL,
    METHOD,
    MULTIPLES,
    OPTION_SCOPES,
    SOURCE,
    STARTUP,
    Domain,
    Experiment,
    Setting,
    scope_of,
)

__all__ = ["Cell", "Run", "code_digest", "configurations_root", "plan", "shared_stage"]

PACKAGES = Path(__file__).resolve().parents[1]
"""The folder that nplp and nplp_synthetic lie in."""

NO_RESULTS = ("export", "report")
"""Packages of nplp that decide no result."""

ABLATIONS = "configs/NPLP/ablations"
OVERLAYS = "configs/methods/overlays"
ORDER = (SOURCE, STARTUP, FULL)


@dataclass(frozen=True)
class Run:
    """One run of ``nplp_commands.train``.

    Attributes:
        key: its folder, below that of all runs.
        config: the configuration's file.
        overlays: files merged over it.
        options: keys and values on top.
        source: key of the run whose source model it starts from; empty: it trains that model.
        branch: key of the run whose last state it goes on from; empty: none.
    """

    key: str
    config: str
    overlays: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    source: str = ""
    branch: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the runs that must be finished before."""
        return tuple(key for key in (self.source, self.branch) if key)

    @property
    def settings(self) -> str:
        """What decides its results, as words: files, what they hold, options, what it goes on from."""
        files = (self.config, *self.overlays)
        content = f"content {_digest(configurations_root(), files)}"
        words = [*files, content, *(f"{key}={value}" for key, value in self.options)]
        return " ".join([*words, f"after {self.branch}" if self.branch else ""]).strip()


@dataclass(frozen=True)
class Cell:
    """A number of a table: a row in a direction with a seed, and the run that it comes from."""

    row: Setting
    direction: str
    seed: int
    run: str
    metrics: str


def configurations_root() -> Path:
    """Return the folder that holds ``configs/NPLP``: the checkout, the current one, or that of the package.

    Raises:
        UserError: if none holds it.
    """
    folders = (PACKAGES.parents[1], Path.cwd(), PACKAGES / PACKED.name)
    for folder in folders:
        if (folder / "configs" / "NPLP").is_dir():
            return folder
    raise UserError(
        f"the configurations of the experiments are missing: neither {str(folders[0])!r} nor the current "
        f"folder {str(folders[1])!r} holds configs/NPLP; call this in a checkout of the project"
    )


@cache
def code_digest() -> str:
    """Return eight digits that change with the code that decides results: nplp's and nplp_synthetic's.

    Comments and docstrings do not change them; neither do the experiments and :data:`NO_RESULTS`.
    """
    total = hashlib.sha256()
    for package in ("nplp", "nplp_synthetic"):
        for path in sorted((PACKAGES / package).rglob("*.py")):
            name = path.relative_to(PACKAGES)
            if name.parts[1] not in NO_RESULTS:
                total.update(f"{name.as_posix()}\n{_statements(path)}\n".encode())
    return total.hexdigest()[:8]


def _statements(path: Path) -> str:
    """Return a module's syntax tree without its docstrings, as text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


@cache
def _digest(root: Path, files: tuple[str, ...]) -> str:
    """Return eight digits that change with what configurations and their bases say, but not with comments."""
    text = json.dumps([_content(root / file) for file in files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _content(path: Path) -> list[Any]:
    """Return what a configuration says, and before it what its bases say."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    base = content.pop("_BASE_", None)
    return [*(_content(path.parent / base) if base else ()), content]


def plan(
    domain: Domain, experiments: list[Experiment], seeds: list[int] | None
) -> tuple[list[Run], dict[str, list[Cell]]]:
    """Return the runs that experiments need, each after those it needs, and the cells of each experiment.

    Args:
        domain: where.
        experiments: which.
        seeds: of every cell; ``None``: those that the experiment takes.

    Raises:
        UserError: if a configuration cannot be read.
    """
    runs: dict[str, Run] = {}
    cells: dict[str, list[Cell]] = {}
    for experiment in experiments:
        cells[experiment.name] = []
        for direction in experiment.directions:
            if direction not in domain.directions:
                continue
            for row in experiment.rows:
                for seed in seeds if seeds is not None else _own_seeds(experiment, row):
                    chain = _chain(domain, direction, row, seed)
                    runs.update({run.key: run for run in chain if run.key not in runs})
                    metrics = row.metrics or ("direct_transfer" if row.reach == SOURCE else "final")
                    cells[experiment.name].append(Cell(row, direction, seed, chain[-1].key, metrics))
    return list(runs.values()), cells


def _own_seeds(experiment: Experiment, row: Setting) -> range:
    first = experiment.first_seed
    return range(first, first + (row.seeds or experiment.seeds))


def _chain(domain: Domain, direction: str, row: Setting, seed: int) -> list[Run]:
    """Return the runs that a cell needs, the last of which gives its numbers."""
    config = domain.directions[direction]
    cfg = _configuration(configurations_root() / config)
    values = {key: _value(key, value, _own(cfg, key)) for key, value in row.options}
    # The configuration's own value is no option: the runs are the same.
    options = {key: value for key, value in values.items() if value != str(_own(cfg, key))}
    iterations = int(options.get("NPLP.ITERATIONS", cfg.NPLP.ITERATIONS))
    startup = int(options.get("NPLP.STARTUP_ITERATIONS", cfg.NPLP.STARTUP_ITERATIONS))

    def run(stage: str, name: str, extra: dict[str, object], **links: str) -> Run:
        start = domain.sources.get(direction, direction) if stage == SOURCE else direction
        overlays, changes = _until(row, options, stage)
        names = [overlay.removeprefix(METHOD) for overlay in overlays]
        words = "+".join((*names, *(f"{key.rpartition('.')[2].lower()}{value}" for key, value in changes)))
        run_options = {
            **dict(changes),
            **{key: str(value) for key, value in extra.items()},
            **dict.fromkeys(domain.seed_keys, str(seed)),
        }
        run_options["NPLP.REPORT"] = str(row.traced and stage == FULL)
        key = f"{domain.name}/{start}/{words}/seed{seed}/{name}"
        files = tuple(_file_of(overlay) for overlay in overlays)
        return Run(key, domain.directions[start], files, tuple(run_options.items()), **links)

    source = run(SOURCE, "source", {"NPLP.ITERATIONS": 0})
    if row.reach == SOURCE:
        return [source]
    before, after = ([source], source.key) if domain.pretrains else ([], "")
    alone = row.reach == STARTUP
    stage, name = (STARTUP, "alone") if alone else (FULL, "traced" if row.traced else "full")
    schedule: dict[str, object] = {
        "NPLP.ITERATIONS": iterations,
        "NPLP.STARTUP_ITERATIONS": iterations if alone else startup,
    }
    if row.whole or row.traced:
        return [*before, run(stage, name, schedule, source=after)]
    first = run(
        STARTUP,
        "startup",
        {"NPLP.ITERATIONS": startup, "NPLP.STARTUP_ITERATIONS": startup},
        source=after,
    )
    last = run(stage, name, schedule, source=after, branch=first.key)
    return [*before, first, last]


@cache
def _configuration(path: Path) -> CfgNode:
    """Return the frozen configuration of a direction."""
    return load_config(argparse.Namespace(config_file=str(path), opts=[]))


def _file_of(overlay: str) -> str:
    """Return the file of an overlay, from its name in a row."""
    if overlay.startswith(METHOD):
        return f"{OVERLAYS}/{overlay.removeprefix(METHOD)}.yml"
    return f"{ABLATIONS}/{overlay}.yml"


def _until(
    row: Setting, options: dict[str, str], stage: str
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the overlays and options that change a run up to a stage."""
    reach = ORDER.index(stage)
    overlays = tuple(name for name in row.overlays if ORDER.index(scope_of(name)) <= reach)
    changes = tuple(
        (key, value)
        for key, value in options.items()
        if ORDER.index(OPTION_SCOPES.get(key, STARTUP)) <= reach
    )
    return overlays, changes


def shared_stage(first: Setting, second: Setting) -> str:
    """Return the last stage that two rows have in common: STARTUP, SOURCE, or nothing."""
    scopes = [scope_of(name) for name in {*first.overlays} ^ {*second.overlays}]
    scopes += [OPTION_SCOPES.get(key, STARTUP) for key, _ in {*first.options} ^ {*second.options}]
    differs = min(map(ORDER.index, scopes), default=ORDER.index(FULL))
    return ORDER[differs - 1] if differs else ""


def _value(key: str, value: object, own: Any) -> str:
    """Return an option's value as text; that of a key in :data:`MULTIPLES` is a multiple of ``own``."""
    if key in MULTIPLES:
        return f"{MULTIPLES[key](float(str(value)) * own):.6g}"
    return str(value)


def _own(cfg: Any, key: str) -> object:
    """Return the configuration's own value of a dotted key.

    Raises:
        UserError: if there is no such key.
    """
    value: object = value_at(cfg, key)
    if value is None:
        raise UserError(f"an experiment names {key}, which is no key of the configuration")
    return value
