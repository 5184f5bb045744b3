#!/usr/bin/env python
"""Fit and test the verdict on an adaptation, on all committed records, and write its tables.

Reads docs/results/reproduce/*/runs.jsonl and docs/results/verdict_runs.jsonl. A run was worth it where it
gained 2 mAP or more. Intervals are bootstraps over groups of runs, which share settings and seed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from tabulate import tabulate

from nplp.engine.stopping import is_last
from nplp.engine.verdict import DOUBTFUL, FAILED, HEALTHY, judge, read_signs
from nplp.errors import UserError
from nplp.files import read_text, write_atomically
from nplp_commands.parsing import OneLineParser, run_tool
from verdict_records import RESULTS_FOLDER, Case, Outcome, gather, keep, load_cases, load_outcomes

JSON = RESULTS_FOLDER / "verdicts.json"
PAGE = RESULTS_FOLDER.parent / "can_i_trust_it.md"
BEGIN, END = "<!-- benchmarks/verdicts.py {} -->", "<!-- end -->"
WORTH = 2.0
"""Points of mAP from which an adaptation was worth it."""
FEWEST = 8
"""Runs of a domain from which a correlation is given."""
DRAWS = 1000
MADE = "made_to_fail/"
FAILED_SHARE, FEWEST_ABOVE = 0.8, 3
GRID = np.round(np.arange(0.5, 1.1, 0.01), 2)
STOP_AGREEMENT, STOP_LEAST = 0.97, 4
"""What ``nplp adapt`` sets."""

SIGNALS: dict[str, Callable[[Case], float | None]] = {
    "fall of epsilon: last / first": lambda case: read_signs(case.history).epsilon_fall,
    "last epsilon": lambda case: case.history[-1]["epsilon_e"],
    "outlier share": lambda case: read_signs(case.history).outliers,
    "clusters, last / first": lambda case: case.history[-1]["clusters"] / max(1, case.history[0]["clusters"]),
    "largest cluster's share": lambda case: case.history[-1]["largest_cluster_share"],
    "agreement with the labels before": lambda case: case.history[-1].get("label_agreement"),
    "camera entropy of clusters": lambda case: case.history[-1].get("camera_entropy"),
    "pairs across cameras": lambda case: case.history[-1].get("cross_camera_pairs"),
    "self-assessment": lambda case: case.history[-1].get("self_assessment"),
}


def resample(groups: Sequence[str], seed: int = 0) -> list[np.ndarray]:
    """Return the positions of bootstrap draws of whole groups [at most N each]."""
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(places == number) for number in range(len(names))]
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(names), (DRAWS, len(names)))
    return [np.concatenate([members[number] for number in numbers]) for numbers in drawn]


def interval(statistic: Callable[[np.ndarray], float], groups: Sequence[str]) -> list[float]:
    """Return the 95% interval of a statistic of positions; draws for which it is no number are left out."""
    values = np.array([statistic(draw) for draw in resample(groups)])
    values = values[np.isfinite(values)]
    return [round(float(value), 2) for value in np.percentile(values, [2.5, 97.5])] if len(values) else []


def bound_of_none(groups: Sequence[str]) -> float:
    """Return the exact 97.5% bound, in percent, of a share of which none was seen among the groups.

    A bootstrap would call it 0, as no draw has any either.
    """
    return 100 * (1 - 0.025 ** (1 / len(set(groups))))


def correlations(cases: list[Case]) -> list[dict[str, Any]]:
    """Return Spearman's correlation of each signal with the gain, by domain."""
    rows = []
    for domain in _domains(cases):
        for name, signal in SIGNALS.items():
            known = [(case, signal(case)) for case in cases if case.domain == domain]
            known = [(case, value) for case, value in known if value is not None]
            if len(known) < FEWEST or len({value for _, value in known}) < 2:
                continue
            values, gains = (
                np.array([value for _, value in known]),
                np.array([case.gain for case, _ in known]),
            )

            def rank(draw: np.ndarray, values: np.ndarray = values, gains: np.ndarray = gains) -> float:
                if np.ptp(values[draw]) == 0 or np.ptp(gains[draw]) == 0:
                    return float("nan")
                return float(np.corrcoef(rankdata(values[draw]), rankdata(gains[draw]))[0, 1])

            limits = interval(rank, [case.group for case, _ in known])
            whole = round(rank(np.arange(len(known))), 2)
            rows.append(
                {"domain": domain, "signal": name, "runs": len(known), "rho": whole, "interval": limits}
            )
    return rows


def fit(cases: list[Case]) -> dict[str, float] | None:
    """Return the thresholds of the fall of epsilon; None without runs of both kinds.

    ``healthy_fall`` is in the middle of those with the least balanced error (the mean of the shares of runs
    of both kinds that are on the wrong side). ``failed_fall`` is the least from which on four of five runs or
    more gained less, of three or more.
    Runs whose features exploded, or whose epsilon is held, are left out. So are those of Euclidean distances
    whose records do not tell the distance of unrelated images: their features grow. Runs made to fail are a
    test alone.
    """
    known = [(read_signs(case.history), case.gain) for case in cases if _fits(case)]
    pairs = [(sign.epsilon_fall, gain) for sign, gain in known if sign.epsilon_fall and not sign.exploded]
    if not pairs:
        return None
    falls, gains = (np.array(column) for column in zip(*pairs, strict=True))
    worth = gains >= WORTH
    if worth.all() or not worth.any():
        return None
    errors = np.array([((falls[worth] > at).mean() + (falls[~worth] <= at).mean()) / 2 for at in GRID])
    best = GRID[np.isclose(errors, errors.min())]
    healthy = float(np.median(best))
    later = [at for at in GRID if at >= healthy and _fails_from(float(at), falls, worth)]
    return {"healthy_fall": round(healthy, 2), "failed_fall": round(float(min(later, default=GRID[-1])), 2)}


def _fits(case: Case) -> bool:
    return "+euclidean/" not in case.run and not case.run.startswith(MADE)


def _fails_from(at: float, falls: np.ndarray, worth: np.ndarray) -> bool:
    """Tell whether nearly all runs [N] whose fall of epsilon is ``at`` or above were not worth it."""
    above = falls >= at
    return above.sum() >= FEWEST_ABOVE and (~worth[above]).mean() >= FAILED_SHARE


def counted(words: np.ndarray, worth: np.ndarray) -> dict[str, int]:
    """Return how many runs there are, and were called what, and of these how many were not worth it."""
    counts = Counter(zip(words.tolist(), worth.tolist(), strict=True))
    found = {"runs": len(words), "gained_less": int((~worth).sum())}
    for word in (HEALTHY, DOUBTFUL, FAILED):
        found[word] = counts[word, True] + counts[word, False]
        found[f"{word}_gained_less"] = counts[word, False]
    return found


def error_rates(cases: list[Case], thresholds: dict[str, float]) -> dict[str, Any]:
    """Return how often the verdict is wrong over runs.

    Wrong is "healthy" of a run that gained less than 2 mAP, and "failed" of one that gained as much.
    """
    words = np.array([judge(case.history, **thresholds).word for case in cases])
    worth = np.array([case.gain >= WORTH for case in cases])
    wrong = ((words == HEALTHY) & ~worth) | ((words == FAILED) & worth)
    found: dict[str, Any] = {**counted(words, worth), "wrong": int(wrong.sum())}
    groups = [case.group for case in cases]
    found["groups"] = len(set(groups))
    found["wrong_interval"] = interval(lambda draw: 100 * float(wrong[draw].mean()), groups)
    if not wrong.any():
        found["wrong_interval"] = [0.0, round(bound_of_none(groups), 2)]
    return found


def by_domain(cases: list[Case], thresholds: dict[str, float]) -> list[dict[str, Any]]:
    """Return the error rates of each domain and of all."""
    rows = [
        {"domain": name, **error_rates([case for case in cases if case.domain == name], thresholds)}
        for name in _domains(cases)
    ]
    return [*rows, {"domain": "all", **error_rates(cases, thresholds)}]


def agreement(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return of each domain, and of all, how often the verdict agreed with what was gained.

    It agrees where it is "healthy" of a run that gained 2 mAP or more, or one of the others of a run that
    gained less: "doubtful" of a good run is no agreement.
    """
    rows = []
    for domain in (*dict.fromkeys(outcome.domain for outcome in outcomes), "all"):
        own = [outcome for outcome in outcomes if domain in (outcome.domain, "all")]
        words = np.array([outcome.word for outcome in own])
        worth = np.array([outcome.gain >= WORTH for outcome in own])
        agreed = (words == HEALTHY) == worth
        groups = [outcome.group for outcome in own]
        limits = interval(lambda draw, a=agreed: 100 * float(a[draw].mean()), groups)
        if agreed.all():
            limits = [round(100 - bound_of_none(groups), 2), 100.0]
        rows.append(
            {
                "domain": domain,
                **counted(words, worth),
                "agreed": int(agreed.sum()),
                "agreed_interval": limits,
            }
        )
    return rows


def left_out(cases: list[Case]) -> list[dict[str, Any]]:
    """Return the error rates of each domain with thresholds of all others."""
    rows = []
    for name in _domains(cases):
        found = fit([case for case in cases if case.domain != name])
        if found is not None:
            own = [case for case in cases if case.domain == name]
            rows.append({"domain": name, **found, **error_rates(own, found)})
    return rows


def choices(case: Case) -> dict[str, float]:
    """Return mAP by each rule that ends a run, or goes back to an earlier iteration.

    A line's labels are made by the model before that iteration, whose mAP the line before tells.
    """
    maps = case.maps()
    evaluated = [number for number, value in enumerate(maps) if value is not None]
    last, best = case.after, max([case.after, *(maps[number] or 0 for number in evaluated)])
    words = [judge(case.history[: number + 1]).word for number in range(len(maps))]
    found = {
        "last": last,
        "best": best,
        "old model where failed": case.before if words[-1] == FAILED else last,
    }
    judged = [number for number in evaluated if number + 1 < len(maps)]
    epsilons = {number: case.history[number + 1]["epsilon_e"] for number in judged}
    back = [number for number in judged if words[number + 1] == HEALTHY]
    found["last healthy"] = (maps[back[-1]] or 0) if words[-1] != HEALTHY and back else last
    if judged:
        lowest = min(epsilons, key=lambda number: epsilons[number])
        found["lowest epsilon"] = last if lowest == judged[-1] else maps[lowest] or 0
    agreements = [line.get("label_agreement") for line in case.history]
    if any(value is not None for value in agreements):
        options = argparse.Namespace(AGREEMENT=STOP_AGREEMENT, MIN_ITERATIONS=STOP_LEAST)
        ends = [number for number in evaluated if is_last(options, number + 1, agreements[number])]
        found["agreement"] = (maps[ends[0]] or 0) if ends else last
    return found


def stopping(cases: list[Case]) -> list[dict[str, Any]]:
    """Compare each rule with the last and the best iteration."""
    rows = []
    for rule in ("old model where failed", "last healthy", "lowest epsilon", "agreement"):
        chosen = [(case, found) for case in cases if rule in (found := choices(case))]
        if not chosen:
            continue
        gains = np.array([found[rule] - found["last"] for _, found in chosen])
        room = np.array([found["best"] - found["last"] for _, found in chosen])
        rows.append(
            {
                "rule": rule,
                "runs": len(chosen),
                "differs": int((gains != 0).sum()),
                "mean": round(float(gains.mean()), 2),
                "interval": interval(
                    lambda d, g=gains: float(g[d].mean()), [case.group for case, _ in chosen]
                ),
                "room": round(float(room.mean()), 2),
                "helped": int((gains > 1).sum()),
                "harmed": int((gains < -1).sum()),
            }
        )
    return rows


def analyse(cases: list[Case], later: Sequence[Outcome] = ()) -> dict[str, Any]:
    """Return all that the page shows of the cases, and of the outcomes of later runs."""
    thresholds = fit(cases)
    if thresholds is None:
        raise UserError(
            "the records hold no run that was worth it, or none that was not: nothing can be fitted"
        )
    made = [case for case in cases if case.run.startswith(MADE)]
    outcomes = [Outcome(case.domain, case.group, judge(case.history).word, case.gain) for case in made]
    return {
        "worth": WORTH,
        "epsilon_fall": thresholds,
        "correlations": correlations(cases),
        "verdicts": by_domain(cases, thresholds),
        "left_out": left_out(cases),
        "agreement": agreement([*later, *outcomes]),
        "stopping": stopping(cases),
        "made_to_fail": [
            {
                "run": case.run.removeprefix(MADE),
                "gain": round(case.gain, 1),
                "epsilon_fall": round(read_signs(case.history).epsilon_fall or 0, 2),
                "verdict": str(judge(case.history)),
            }
            for case in made
        ],
    }


def tables(found: dict[str, Any]) -> dict[str, str]:
    """Return the page's tables by name."""
    rates = [
        "domain",
        "runs",
        "gained < 2",
        "healthy (< 2)",
        "doubtful (< 2)",
        "failed (< 2)",
        "wrong",
        "95%",
    ]
    return {
        "verdicts": _table([_rates(row) for row in found["verdicts"]], rates),
        "left out": _table(
            [[*_rates(row), row["healthy_fall"], row["failed_fall"]] for row in found["left_out"]],
            [*rates, "healthy up to", "failed from"],
        ),
        "agreement": _table(
            [_rates(row, "agreed") for row in found["agreement"]],
            ["agreed" if name == "wrong" else name for name in rates],
        ),
        "correlations": _correlation_table(found["correlations"]),
        "stopping": _table(
            [
                [
                    *(row[key] for key in ("rule", "runs", "differs")),
                    f"{row['mean']:+.2f} ({_range(row['interval'])})",
                    *(row[key] for key in ("room", "helped", "harmed")),
                ]
                for row in found["stopping"]
            ],
            ["rule", "runs", "differs", "mAP against the last", "best against the last", "helped", "harmed"],
        ),
        "made to fail": _table(
            [
                [row["run"], f"{row['gain']:+.1f}", row["epsilon_fall"], row["verdict"]]
                for row in found["made_to_fail"]
            ],
            ["run", "gain", "epsilon, last / first", "verdict"],
        ),
    }


def _rates(row: dict[str, Any], share: str = "wrong") -> list[Any]:
    """Return the cells of a row of :func:`error_rates` or :func:`agreement`, by the share's name."""
    words = [f"{row[word]} ({row[f'{word}_gained_less']})" for word in (HEALTHY, DOUBTFUL, FAILED)]
    return [
        row["domain"],
        row["runs"],
        row["gained_less"],
        *words,
        f"{row[share]} ({100 * row[share] / row['runs']:.0f}%)",
        f"{_range(row[f'{share}_interval'], 0)}%",
    ]


def _correlation_table(rows: list[dict[str, Any]]) -> str:
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    cells = {
        (row["signal"], row["domain"]): f"{row['rho']:+.2f} ({_range(row['interval'])}), {row['runs']} runs"
        for row in rows
    }
    signals = [name for name in SIGNALS if any((name, domain) in cells for domain in domains)]
    return _table(
        [[name, *(cells.get((name, domain), "") for domain in domains)] for name in signals],
        ["signal", *domains],
    )


def _range(limits: list[float], digits: int = 2) -> str:
    return f"{limits[0]:.{digits}f} to {limits[1]:.{digits}f}" if limits else "-"


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, "github", disable_numparse=True)


def _domains(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(case.domain for case in cases))


def fill(page: str, found: dict[str, Any]) -> str:
    """Return the page with its tables replaced.

    Raises:
        UserError: if the page has no place for one of them.
    """
    for name, table in tables(found).items():
        begin = BEGIN.format(name)
        if page.count(begin) != 1:
            raise UserError(f"{str(PAGE)!r} must have the line {begin!r} once")
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{table}\n{rest[rest.index(END) :]}"
    return page


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="write docs/results/verdicts.json and the page's tables"
    )
    parser.add_argument(
        "--collect", type=Path, metavar="DIR", help="first take the records of finished runs below a folder"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Show the tables; write them where asked."""
    if args.collect is not None:
        keep(gather(args.collect))
    found = analyse(load_cases(), load_outcomes())
    if args.write:
        page = fill(read_text(PAGE, "restore the page"), found)
        write_atomically(JSON, json.dumps(found, indent=1) + "\n")
        write_atomically(PAGE, page)
        return
    for name, table in tables(found).items():
        sys.stdout.write(f"\n{name}\n{table}\n")


if __name__ == "__main__":
    sys.exit(run_tool(build_parser(), main))
