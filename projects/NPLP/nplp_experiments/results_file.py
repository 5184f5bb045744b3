"""The file of results, a record a run: enough for all tables and figures, small enough to be shared.

A record is a dictionary: ``run`` (its key), ``settings``, the circumstances of the run (``commit``, ``date``,
``processor``, ``cores``, ``seconds``), ``verdict`` (its word, where the run gave one), ``results`` (metrics
in percent by stage) and ``history`` (a dictionary an iteration: the pseudo-labels' numbers and quality, the
metrics where it was evaluated, which ``rules`` for degenerate clusterings found something, and which of them
``acted`` on the labels).
"""

import json
from pathlib import Path
from typing import Any

from nplp.engine.rules import changes_labels
from nplp.errors import UserError
from nplp.files import write_atomically
from nplp.metric_names import STAGES
from nplp_experiments.plan import Run
from nplp_experiments.rows import AVERAGED_MAP
from nplp_experiments.running import DONE, finished

__all__ = ["RECORDS", "gather_records", "load_records", "option_of", "save_records"]

Record = dict[str, Any]

RECORDS = "runs.jsonl"
"""The file of all records of a domain, beside its tables."""

HISTORY = (
    *("iteration", "epsilon_e", "clusters", "outliers", "largest_cluster_share"),
    *("precision", "recall", "cross_camera_recall", "mixed_noise", "fragmented_noise"),
    *("camera_entropy", "cross_camera_pairs", "label_agreement"),
    *("Rank-1", "mAP", AVERAGED_MAP),
)
"""What is kept of an iteration."""

DIGITS = 4


def gather_records(runs: list[Run], folder: Path, path: Path, other_code: bool = False) -> dict[str, Record]:
    """Return the records of runs: of those that have ended in ``folder``, else as ``path`` has them.

    A record in ``path`` counts if its run had the settings that the run has now, whatever code made it: the
    commits stand below each table.

    Raises:
        UserError: if ``path`` holds something else, or a folder a run of other settings or, unless
            ``other_code``, of other code.
    """
    kept = load_records(path)
    found = {}
    for run in runs:
        if finished(run, folder, other_code):
            found[run.key] = _record_of(run, folder)
        elif run.key in kept and kept[run.key]["settings"] == run.settings:
            found[run.key] = kept[run.key]
    return found


def _record_of(run: Run, folder: Path) -> Record:
    """Return the record of a run that has ended."""
    place = folder / run.key
    done = json.loads((place / DONE).read_text(encoding="utf-8"))
    results = json.loads((place / "results.json").read_text(encoding="utf-8"))
    lines = (place / "pseudo_labels.jsonl").read_text(encoding="utf-8").splitlines()
    verdict = results.get("verdict")
    return {
        "run": run.key,
        **done,
        **({"verdict": verdict["word"]} if verdict else {}),
        "results": {
            stage: {name: round(value, DIGITS) for name, value in results[stage].items()}
            for stage in STAGES
            if stage in results
        },
        "stage_seconds": {name: round(value, 1) for name, value in results.get("seconds", {}).items()},
        "history": [_iteration(json.loads(line)) for line in lines],
    }


def _iteration(line: dict[str, Any]) -> dict[str, Any]:
    kept = {name: line[name] for name in HISTORY if name in line}
    found = line.get("rules", ())
    rules = [rule["rule"] for rule in found]
    acted = [rule["rule"] for rule in found if changes_labels(rule["rule"], rule["action"])]
    rounded = {
        name: round(value, DIGITS) if isinstance(value, float) else value for name, value in kept.items()
    }
    return {**rounded, **({"rules": rules} if rules else {}), **({"acted": acted} if acted else {})}


def load_records(path: Path) -> dict[str, Record]:
    """Return the records in a file by the keys of their runs; none where there is no file.

    Raises:
        UserError: if the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {record["run"]: {**record, "history": _rows(record["history"])} for record in records}
    except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(
            f"{str(path)!r} holds no records of runs ({type(error).__name__}: {error}): remove it or "
            "name another folder with --output"
        ) from error


def option_of(record: Record, key: str) -> str:
    """Return the value of a configuration's key among a run's options; empty if it is none of them."""
    options = dict(word.split("=", 1) for word in record["settings"].split() if "=" in word)
    return options.get(key, "")


def save_records(path: Path, records: dict[str, Record]) -> None:
    """Add records to a file, in place of those of the same runs, sorted by the runs' keys."""
    merged = {**load_records(path), **records}
    lines = [
        json.dumps({**record, "history": _columns(record["history"])}) for _, record in sorted(merged.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(line + "\n" for line in lines))


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return dictionaries as one of lists, which names each key once; ``None`` where a row lacks it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return the dictionaries that :func:`_columns` turned into lists."""
    count = len(next(iter(columns.values()), ()))
    return [
        {name: values[number] for name, values in columns.items() if values[number] is not None}
        for number in range(count)
    ]
