"""Puts the page together: one file that needs no network, and the plots beside it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from nplp.engine.verdict import last_verdict
from nplp.files import write_atomically, write_bytes_atomically
from nplp.metric_names import METRICS, STAGES
from nplp.report.crops import SPRITE_CELL, sprite, thumbnail
from nplp.report.plots import COLOURS, UNKNOWN, Plot, curves, distance_plots, map_plots, score_plots
from nplp.report.reading import TRACED, Arrays, RunFolder, read_run
from nplp.report.scatter import SIDE, Scatter, outline, project
from nplp.report.selection import (
    Group,
    by_score,
    changed_queries,
    correction_of,
    fragmented_people,
    mixed_clusters,
    purity,
)

__all__ = ["write_report"]

PAGE = "report.html"
FIGURES = "figures"
CLUSTERS_SHOWN = 5
CROPS_SHOWN = 12
QUERIES_SHOWN = 6


@dataclass(frozen=True)
class Card:
    """A cluster, a person or a query with its images.

    Attributes:
        title: what it is.
        note: a line about it.
        rows: groups of crops, each with its words.
    """

    title: str
    note: str
    rows: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)


def write_report(folder: Path, refresh: int = 0) -> Path:
    """Write ``report.html`` into a run's folder, and its plots as PNG and SVG into ``figures``.

    What is not known, such as identities, or not yet there, is said on the page.

    Args:
        folder: OUTPUT_DIR of a run that has begun.
        refresh: seconds after which an open page loads itself again; 0: never.

    Returns:
        The page.

    Raises:
        UserError: if the folder is not one of a run, or cannot be written.
    """
    run = read_run(folder)
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("curves", lambda: curves(run)),
        ("scatter", lambda: _scatters(run)),
        ("clusters", lambda: _cluster_cards(run)),
        ("noise", lambda: _noise_cards(run)),
        ("scores", lambda: score_plots(run, _last_scored(run))),
        ("distances", lambda: distance_plots(run)),
        ("queries", lambda: _query_cards(run)),
    ]
    parts: dict[str, Any] = {}
    for name, build in tqdm(steps, desc="Page", unit="part", leave=False, disable=None):
        parts[name] = build()
    maps = map_plots(parts["scatter"]["pictures"], parts["scatter"]["people"])
    plots: list[Plot] = [*parts["curves"], *maps, *parts["scores"], *parts["distances"]]
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    for plot in plots:
        write_bytes_atomically(figures / f"{plot.name}.png", plot.png)
        drawn = plot.svg.replace("currentColor", "#222222")
        write_atomically(figures / f"{plot.name}.svg", f'<?xml version="1.0" encoding="utf-8"?>\n{drawn}')
    page = _environment().get_template("report.html.j2").render(**_headline(run), **parts, refresh=refresh)
    path = folder / PAGE
    write_atomically(path, page)
    return path


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("nplp.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )


def _headline(run: RunFolder) -> dict[str, Any]:
    """Return what stands at the top of the page."""
    results = {
        title: [f"{run.results[stage][metric]:.1f}" for metric in METRICS]
        for stage, title in STAGES.items()
        if stage in run.results
    }
    done, planned = len(run.history), run.option("NPLP", "ITERATIONS", default=len(run.history))
    end = (
        f"finished: stopped after {done} of {planned} iterations" if "stopped" in run.results else "finished"
    )
    weights = run.option("NPLP", "SOURCE", "WEIGHTS", default="")
    # What weights of others were trained on is not known.
    source = [Path(weights).name] if weights else run.option("NPLP", "SOURCE", "DATASETS", default=["source"])
    target = run.option("DATASETS", "NAMES", default=["target"])
    seconds = run.results.get("seconds", {})
    return {
        "task": f"{', '.join(source)} to {', '.join(target)}",
        "name": run.folder.resolve().name,
        "metrics": METRICS,
        "results": results,
        "left_out": {
            name: counts
            for name, counts in run.results.get("queries", {}).items()
            if counts.get("without_match")
        },
        "state": end if run.finished else f"running: {done} of {planned} iterations",
        "seconds": {key: f"{value:,.0f} s" for key, value in seconds.items()},
        "total": f"{sum(seconds.values()) / 60:,.0f} minutes" if seconds else "",
        "seed": run.results.get("seed", ""),
        "versions": run.results.get("versions", {}),
        "settings": run.results.get("config", {}),
        "verdict": _verdict(run),
        "rules": [
            (line["iteration"], about + str(rule.get("rule", "")).replace("_", " "), _rule_text(rule))
            for line in run.history
            for about, rules in (
                ("", line.get("rules", [])),
                ("rejected labels, ", line.get("rejected", {}).get("rules", [])),
            )
            for rule in rules
        ],
        "staged": 0 < run.option("NPLP", "STARTUP_ITERATIONS", default=0) < done,
        "identities_known": run.known_identities,
        "all_known": run.known_identities == len(run.images.get("paths", ())),
        "traced": bool(run.images),
        "images": len(run.images.get("paths", ())),
        "stages": TRACED,
    }


def _verdict(run: RunFolder) -> str:
    """Return what is to be thought of the run so far; empty for one of an earlier version."""
    verdict = last_verdict(run.history)
    return "" if verdict is None else str(verdict)


def _rule_text(rule: dict[str, Any]) -> str:
    """Return what a rule found; in numbers where an earlier version wrote no words."""
    numbers = (f"{key} {value}" for key, value in rule.items() if key not in ("rule", "text"))
    return str(rule.get("text") or ", ".join(numbers))


def _last_scored(run: RunFolder) -> Arrays:
    """Return the trace of the last iteration with self-assessment scores; empty where there is none."""
    for number in reversed(run.iterations()):
        arrays = run.trace(f"iteration_{number:04d}")
        if len(arrays.get("self_assessment", ())):
            return {**arrays, "number": np.array(number)}
    return {}


def _scatters(run: RunFolder) -> dict[str, Any]:
    """Return the pictures of the sample at each stage, and the sprite of its images."""
    images = run.images
    if not images:
        return {"pictures": [], "people": np.empty(0), "sprite": "", "columns": 1, "points": []}
    sample = images["sample"]
    pictures: list[Scatter] = []
    iterations = run.iterations()
    startup = run.option("NPLP", "STARTUP_ITERATIONS", default=0)
    for stage, title in TRACED.items():
        features = run.trace(f"features_{stage}").get("features")
        number = {"direct_transfer": 1, "startup": startup + 1}.get(
            stage, iterations[-1] if iterations else 0
        )
        labels = run.trace(f"iteration_{number:04d}").get("labels")
        if features is None or labels is None:
            continue
        points = project(features, pictures[-1].points if pictures else None)
        pictures.append(Scatter(title, number, points, outline(points, labels[sample])))
    uri, columns = sprite(images["paths"][sample])
    people = images["identities"][sample] if "identities" in images else np.full(len(sample), -1)
    known = people >= 0
    # Numbers from 0 on have the most different colours.
    people[known] = np.unique(people[known], return_inverse=True)[1]
    cell = SPRITE_CELL
    dots = [
        {
            "x": number % columns * cell[0],
            "y": number // columns * cell[1],
            "fill": UNKNOWN if person < 0 else f"hsl({int(person * 137.508 % 360)} 70% 50%)",
            "words": _words(images, int(image)),
        }
        for number, (image, person) in enumerate(zip(sample, people, strict=True))
    ]
    return {
        "pictures": pictures,
        "people": people,
        "sprite": uri,
        "columns": columns,
        "points": dots,
        "side": SIDE,
        "cell": cell,
    }


def _words(images: Arrays, number: int) -> str:
    """Return what is known of an image, in words."""
    camera = f"camera {images['cameras'][number] + 1}"
    if "identities" not in images:
        return camera
    if images["identities"][number] < 0:
        return f"nobody knows who, {camera}"
    return f"person {images['identities'][number]}, {camera}"


def _crops(images: Arrays, members: np.ndarray, people: list[int] | None = None) -> list[dict[str, Any]]:
    """Return the crops of images; people get a colour and a letter in the order of `people`."""
    known = images.get("identities")
    crops = []
    for number in members:
        person = None if known is None else int(known[number])
        mark = ("", "")
        if people and person in people:
            place = people.index(person)
            mark = (COLOURS[place], chr(65 + place)) if place < len(COLOURS) else (UNKNOWN, "+")
        words = _words(images, int(number))
        crops.append(_crop(images["paths"][number], images["cameras"][number], words, *mark))
    return crops


def _crop(path: Any, camera: Any, words: str, colour: str = "", letter: str = "") -> dict[str, Any]:
    """Return an image as the page shows it, with its camera and a coloured letter on it."""
    return {
        "uri": thumbnail(str(path)),
        "camera": int(camera) + 1,
        "words": words,
        "colour": colour,
        "letter": letter,
    }


def _people_of(images: Arrays, members: np.ndarray) -> list[int]:
    """Return the identities among images, the commonest first; none where they are unknown."""
    if "identities" not in images:
        return []
    identities = images["identities"][members]
    people, sizes = np.unique(identities[identities >= 0], return_counts=True)
    return [int(person) for person in people[np.argsort(-sizes, kind="stable")]]


def _rows(images: Arrays, groups: list[Group], people: list[int]) -> list[tuple[str, list[dict[str, Any]]]]:
    return [
        (
            f"{group.title}: {group.total} image{'s' if group.total != 1 else ''}",
            _crops(images, group.members, people),
        )
        for group in groups
    ]


def _cluster_cards(run: RunFolder) -> dict[str, Any]:
    """Return the clusters with the lowest and the highest scores, before and after correction."""
    images, arrays = run.images, _last_scored(run)
    if not images or not arrays:
        return {"iteration": 0, "lowest": [], "highest": []}
    scores, startup, labels = (arrays[key] for key in ("self_assessment", "startup_labels", "labels"))
    noisy = set(arrays["noisy_clusters"].tolist())
    pure = purity(startup, images["identities"]) if "identities" in images else None
    sides = []
    for side in by_score(scores, CLUSTERS_SHOWN):
        cards = []
        for cluster in side:
            members = np.flatnonzero(startup == cluster)
            people = _people_of(images, members)
            note = f"score {scores[cluster]:.3f}"
            if pure is not None and people:
                noun = "person" if len(people) == 1 else f"people, {100 * pure[cluster]:.0f}% of one"
                note += f", {len(people)} {noun}"
            before = Group("before", members[:CROPS_SHOWN], len(members))
            rows = _rows(images, [before], people)
            if cluster in noisy:
                after = correction_of(int(cluster), startup, labels, CROPS_SHOWN)
                rows += [(f"after: {words}", crops) for words, crops in _rows(images, after, people)]
            cards.append(Card(f"Cluster {cluster}", note, rows))
        sides.append(cards)
    return {"iteration": int(arrays["number"]), "lowest": sides[0], "highest": sides[1]}


def _noise_cards(run: RunFolder) -> dict[str, Any]:
    """Return examples of both noises in the last iteration; none where identities are unknown."""
    images, iterations = run.images, run.iterations()
    if "identities" not in images or not iterations:
        return {"iteration": 0, "mixed": [], "fragmented": []}
    labels, identities = run.trace(f"iteration_{iterations[-1]:04d}")["labels"], images["identities"]
    mixed = []
    for group in mixed_clusters(labels, identities, CLUSTERS_SHOWN, 2 * CROPS_SHOWN):
        everyone = np.flatnonzero(labels == labels[group.members[0]])
        crops = _crops(images, group.members, _people_of(images, everyone))
        mixed.append(Card(_capital(group.title), f"{group.total} images", [("", crops)]))
    torn = [
        Card(_capital(title), "", _rows(images, groups, []))
        for title, groups in fragmented_people(labels, identities, CLUSTERS_SHOWN, CROPS_SHOWN // 2)
    ]
    return {"iteration": iterations[-1], "mixed": mixed, "fragmented": torn}


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _query_cards(run: RunFolder) -> dict[str, list[Card]]:
    """Return the queries that adaptation repaired and those that it broke, with both rank lists."""
    tests = run.trace("test_images")
    before, after = run.trace("ranks_direct_transfer"), run.trace("ranks_final")
    if not after:
        after = run.trace("ranks_startup")
    if not tests or not before or not after:
        return {"repaired": [], "broken": []}
    sides = changed_queries(before["average_precision"], after["average_precision"], QUERIES_SHOWN)
    repaired, broken = ([_query_card(tests, before, after, int(query)) for query in side] for side in sides)
    return {"repaired": repaired, "broken": broken}


def _query_card(tests: Arrays, before: Arrays, after: Arrays, query: int) -> Card:
    person, camera = tests["query_identities"][query], tests["query_cameras"][query]
    words = f"query, person {person}, camera {camera + 1}"
    rows = [("query", [_crop(tests["query_paths"][query], camera, words)])]
    for title, lists in (("direct transfer", before), ("adapted", after)):
        crops = []
        for place, number in enumerate(lists["top"][query], start=1):
            if number < 0:
                break
            right, seen_by = tests["gallery_identities"][number] == person, tests["gallery_cameras"][number]
            words = f"rank {place}, {'right' if right else 'wrong'}, camera {seen_by + 1}"
            mark = ("#2f9e62", "✓") if right else ("#d9541e", "✗")
            crops.append(_crop(tests["gallery_paths"][number], seen_by, words, *mark))
        rows.append((f"{title}, average precision {100 * lists['average_precision'][query]:.0f}%", crops))
    gain = 100 * (after["average_precision"][query] - before["average_precision"][query])
    return Card(f"Query {query}", f"average precision {gain:+.0f} points", rows)
