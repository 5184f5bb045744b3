"""The files of an experiment: CSV, Markdown with its circumstances, and figures."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nplp.files import write_atomically, write_bytes_atomically
from nplp_experiments.definitions import PAPER, Domain, Experiment
from nplp_experiments.figures import by_iteration, by_setting
from nplp_experiments.plan import Cell
from nplp_experiments.rows import rows_of
from nplp_experiments.tables import as_csv, as_markdown

__all__ = ["write_experiment"]


def write_experiment(
    experiment: Experiment,
    domain: Domain,
    cells: list[Cell],
    records: Mapping[str, dict[str, Any]],
    runs: Path,
    output: Path,
) -> str:
    """Write what is known of an experiment and return its Markdown.

    If no run has ended, nothing is written and the Markdown is empty.

    Args:
        experiment: which.
        domain: where it was run.
        cells: all of its cells.
        records: of the runs that have ended, by key.
        runs: folder of the runs, from which maps of features are copied where they are.
        output: folder of the files.

    Raises:
        UserError: if a file cannot be written.
    """
    ended = [cell for cell in cells if cell.run in records]
    if not ended:
        return ""
    output.mkdir(parents=True, exist_ok=True)
    rows = rows_of(experiment, ended, records)
    plots = []
    if experiment.figure == "iterations":
        plots = by_iteration(experiment, domain, ended, records)
    elif experiment.figure == "sensitivity":
        plots = by_setting(experiment, domain, rows)
    elif experiment.figure == "map":
        for path in sorted((runs / ended[0].run / "figures").glob("map_*")):
            shutil.copyfile(path, output / f"{experiment.name}_{path.name}")
    for plot in plots:
        write_bytes_atomically(output / f"{plot.name}.png", plot.png)
        write_atomically(output / f"{plot.name}.svg", plot.svg.replace("currentColor", "#222222"))
    pictures = sorted(path.name for path in output.glob(f"{experiment.name}_*.png"))
    text = "\n".join(
        [
            as_markdown(experiment, domain, rows),
            *(f"![{Path(name).stem.replace('_', ' ')}]({name})\n" for name in pictures),
            _circumstances(experiment, domain, ended, len(cells), records),
        ]
    )
    write_atomically(output / f"{experiment.name}.csv", as_csv(rows))
    write_atomically(output / f"{experiment.name}.md", text)
    return text


def _circumstances(
    experiment: Experiment,
    domain: Domain,
    cells: list[Cell],
    planned: int,
    records: Mapping[str, dict[str, Any]],
) -> str:
    """Return the paragraph that says how, where, when and from which commits the numbers were made."""
    used = [records[key] for key in dict.fromkeys(cell.run for cell in cells)]

    def listed(name: str) -> str:
        return ", ".join(sorted({str(record[name]) for record in used}))

    seeds = ", ".join(map(str, sorted({cell.seed for cell in cells})))
    missing = f"{planned - len(cells)} of {planned} cells have not been run. " if len(cells) < planned else ""
    beside = " The paper's numbers are of real data." if {*experiment.directions} <= {*PAPER} else ""
    return (
        f"{missing}`python tools/reproduce.py {experiment.name} --domain {domain.name}`, seeds {seeds}, "
        f"{listed('date')}, {listed('processor')}, {listed('cores')} cores, commit {listed('commit')}."
        f"{beside}\n"
    )
