"""The records that verdicts are fitted and tested on: the lines of each iteration, and the gain."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nplp.engine.output_folder import HISTORY, RESULTS
from nplp.errors import UserError
from nplp.files import read_json, read_json_lines, write_atomically

RESULTS_FOLDER = Path(__file__).parents[1] / "docs/results"
RECORDS = RESULTS_FOLDER / "verdict_runs.jsonl"
TRIED = ("guess", "epsilon")
DOMAINS = {
    "d2m": ("plaza to station", 1536),
    "m2d": ("station to plaza", 1536),
    "d2msmt": ("to campus", 3072),
    "m2msmt": ("to campus", 3072),
    "unkind": ("plaza to harbour", 1536),
    "pku": ("PKU-Reid", 592),
    "made_to_fail": ("station, made to fail", 384),
}
"""By the second part of a run's name: what stands in the tables, and the number of training images.

Runs of other tasks are no cases: thresholds are fitted to the paper's method.
"""
UNSEEN = {
    "p2s": "plaza to station",
    "s2p": "station to plaza",
    "p2c": "plaza to campus",
    "pku_methods": "PKU-Reid",
}
"""Tasks of later runs; those of the recommended settings are a test that no threshold was fitted to."""
RECOMMENDED = {"plus", "nplp-plus"}
"""Overlays of the recommended settings, one of which is among those in a run's name."""


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        run: its name.
        domain: of the target.
        group: runs of one group share settings and seed, and so their first iterations.
        history: a line an iteration, as in pseudo_labels.jsonl.
        before: mAP of the direct transfer, in percent.
        after: mAP at the end, of the averaged weights where there are any.
    """

    run: str
    domain: str
    group: str
    history: list[dict[str, Any]]
    before: float
    after: float

    @property
    def gain(self) -> float:
        """What adaptation gained, in points of mAP."""
        return self.after - self.before

    def maps(self) -> list[float | None]:
        """Return mAP after each iteration, where it was evaluated."""
        return [line.get("ema/mAP", line.get("mAP")) for line in self.history]


@dataclass(frozen=True)
class Outcome:
    """What a run was called when it ended, and what it gained.

    Attributes:
        domain: of the target.
        group: outcomes of one group share a source model.
        word: of the verdict.
        gain: in points of mAP.
    """

    domain: str
    group: str
    word: str
    gain: float


def load_outcomes() -> list[Outcome]:
    """Return those of the committed runs of the recommended settings on tasks of later runs."""
    found = []
    for record, maps in _reproduced():
        _, task, settings, seed, _ = record["run"].split("/")
        if task in UNSEEN and RECOMMENDED & {*settings.split("+")} and "verdict" in record:
            gain = maps["final_ema"] - maps["direct_transfer"]
            found.append(Outcome(UNSEEN[task], f"{task}/{seed}", record["verdict"], gain))
    return found


def load_cases() -> list[Case]:
    """Return all committed runs of two iterations or more, ordered by name."""
    cases = {}
    for record, maps in _reproduced():
        if record.get("history") and record["run"].split("/")[1] in DOMAINS:
            cases[record["run"]] = _case(record["run"], maps, list(_lines(record["history"])), None)
    for record in read_json_lines(RECORDS):
        cases[record["run"]] = _case(record["run"], record["mAP"], record["history"], record.get("images"))
    return [cases[name] for name in sorted(cases) if cases[name] and len(cases[name].history) > 1]


def _reproduced() -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """Yield the committed records of tools/reproduce.py, each with its mAP by stage."""
    for path in sorted(RESULTS_FOLDER.glob("reproduce/*/runs.jsonl")):
        for record in read_json_lines(path):
            yield record, {stage: metrics["mAP"] for stage, metrics in record["results"].items()}


def _case(
    name: str, maps: dict[str, float], history: list[dict[str, Any]], images: int | None
) -> Case | None:
    """Return the case of a record; None for one that was not evaluated at its end."""
    first, second, *rest = name.split("/")
    domain, usual = DOMAINS[first if first in DOMAINS and first != "pku" else second]
    lines = [{"images": images or usual, **line} for line in history]
    after = maps.get("final_ema", maps.get("final"))
    if after is None or "direct_transfer" not in maps:
        return None
    return Case(name, domain, "/".join([second, *rest[:-1]]), lines, maps["direct_transfer"], after)


def _lines(columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Return a line an iteration from lists a column."""
    for number in range(len(columns["iteration"])):
        line = {name: values[number] for name, values in columns.items() if values[number] is not None}
        yield {**line, "rules": [{"rule": rule} for rule in line.get("rules", ())]}


def gather(folder: Path) -> list[dict[str, Any]]:
    """Return the records of all adaptations that have ended below a folder; their places are their names.

    Raises:
        UserError: if there is none.
    """
    found = []
    for path in sorted(folder.rglob(HISTORY)):
        name = path.parent.relative_to(folder).as_posix()
        results = read_json(path.parent / RESULTS, "run again") if (path.parent / RESULTS).is_file() else {}
        history = read_json_lines(path)
        parts = name.split("/")
        if "final" in results and len(history) > 1 and len(parts) > 2 and parts[1] in DOMAINS:
            found.append(record_of(name, history[-1].get("images"), results, history))
    if not found:
        raise UserError(
            f"no adaptation has ended below {str(folder)!r}: name the folder of tools/reproduce.py"
        )
    return found


def record_of(
    name: str, images: int | None, results: dict[str, Any], history: list[dict[str, Any]], stopped: str = ""
) -> dict[str, Any]:
    """Return the record of a run: mAP by stage, and each iteration's line without its words.

    Args:
        name: family, variant, settings and seed.
        images: number of training images; ``None`` where it is the usual one.
        results: the content of results.json.
        history: the lines of pseudo_labels.jsonl.
        stopped: why the run refused to go on; empty where it ended well.
    """
    stages = ("direct_transfer", "startup", "final", "final_ema")
    maps = {stage: round(results[stage]["mAP"], 3) for stage in stages if stage in results}
    lines = [_plain(line) for line in history]
    return {"run": name, "images": images, "mAP": maps, "stopped": stopped, "history": lines}


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line with four digits and the names of its rules."""
    plain = {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in line.items()
        if not isinstance(value, (dict, list))
    }
    trials = [
        {key: round(trial[key], 4) for key in TRIED}
        for trial in line.get("alpha_trials", ())
        if TRIED[1] in trial
    ]
    rules = [{"rule": rule["rule"], "action": rule["action"]} for rule in line["rules"]]
    return {**plain, **({"alpha_trials": trials} if trials else {}), "rules": rules}


def keep(records: list[dict[str, Any]], path: Path = RECORDS) -> None:
    """Add records to the file; one of the same name is replaced."""
    known = {entry["run"]: entry for entry in read_json_lines(path)}
    known.update({entry["run"]: entry for entry in records})
    write_atomically(path, "".join(json.dumps(known[name]) + "\n" for name in sorted(known)))
