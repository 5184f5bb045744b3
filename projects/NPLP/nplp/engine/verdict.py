"""Did an adaptation work? A verdict without identities, from the lines of ``pseudo_labels.jsonl``.

Where features get better, images of one person draw nearer to each other, and epsilon, the mean distance of
the nearest pairs across cameras (eq. 4), falls from one iteration to the next. Of all that the labels tell
without identities this says most about the gain: docs/can_i_trust_it.md has the figures and the error rates,
and ``benchmarks/verdicts.py`` fits and tests the thresholds on the committed records. Nothing else than
numbers is needed here: no features, no toolbox.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DOUBTFUL",
    "FAILED",
    "HEALTHY",
    "WORDS",
    "Signs",
    "Verdict",
    "judge",
    "last_verdict",
    "read_signs",
]

HEALTHY, DOUBTFUL, FAILED = WORDS = ("healthy", "doubtful", "failed")

Line = Mapping[str, Any]

HEALTHY_FALL = 0.8
"""Last epsilon over the first, up to which a run is healthy. Fitted on all
records: ``epsilon_fall`` in docs/results/verdicts.json."""
FAILED_FALL = 0.88
"""Last epsilon over the first, from which a run has failed: four of five records above gained less than
2 mAP. Of the same fit."""
MANY_OUTLIERS = 0.5
"""Share of outliers, from which a run is doubtful: the records above gained 5 mAP at most."""
GIANT = 0.5
"""Share of the clustered images in one cluster, from which a run has failed."""
UNSETTLED = 0.5
"""Agreement with the labels before, below which they still change too much to be judged."""
ONE_CAMERA = 0.9
"""Share of clusters with images of one camera alone, from which a run is doubtful."""
FEWEST_IMAGES = 64
"""Images below which a run has failed: one batch of the paper's."""
FEW_IMAGES = 200
"""Images below which a run is doubtful: ten times k1, the neighbours of the Jaccard distance."""
FEW_CLUSTERS = 8
"""Clusters below which a run is doubtful."""
PAIRS_PER_GUESS = 0.9
"""Alpha of a guess of the number of people is this over the guess, see ``nplp.clustering.people``."""
RECENT = 3
"""Lines in which an explosion of the features counts."""


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of an adaptation.

    Attributes:
        word: ``healthy``, ``doubtful`` or ``failed``.
        reasons: why, in words; empty for ``healthy``.
    """

    word: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the verdict in a line, with what to do where it failed."""
        if self.word == FAILED:
            return f"{self.word}: keep the old model ({'; '.join(self.reasons)})"
        return f"{self.word}: {'; '.join(self.reasons)}" if self.reasons else self.word

    def entry(self) -> dict[str, Any]:
        """Return what ``results.json`` and ``pseudo_labels.jsonl`` hold."""
        return {"word": self.word, "reasons": list(self.reasons)}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> "Verdict":
        """Return the verdict that :meth:`entry` describes."""
        return cls(str(entry["word"]), tuple(map(str, entry.get("reasons", ()))))


@dataclass(frozen=True)
class Signs:
    """What the verdict looks at. ``None`` stands for what the lines do not tell.

    Attributes:
        iterations: number of lines.
        images: number of target images.
        clusters: of the last line.
        largest: share of the clustered images that the largest cluster holds, in [0, 1].
        outliers: share of all images, in [0, 1].
        epsilon_fall: last epsilon over the first; ``None`` with one line, and where epsilon is held.
        agreement: of the last labels with those before, about 0 to 1.
        one_camera: share of the clusters whose images are of one camera; ``None`` with one camera too.
        exploded: whether features or logits have exploded in one of the last lines.
        kept: whether the last line has the labels of an earlier one, as there were none of its own.
    """

    iterations: int
    images: int | None
    clusters: int
    largest: float
    outliers: float | None
    epsilon_fall: float | None
    agreement: float | None
    one_camera: float | None
    exploded: bool
    kept: bool


def read_signs(history: Sequence[Line]) -> Signs:
    """Return the signs of a run up to its last line.

    Lines of earlier versions have no ``images``, ``label_agreement`` and so on: these signs are ``None``.

    Args:
        history: the lines of ``pseudo_labels.jsonl``, the first iteration first.

    Raises:
        ValueError: if there is no line.
    """
    if not history:
        raise ValueError("a verdict needs the line of an iteration, and there is none")
    last = history[-1]
    images = last.get("images")
    several_cameras = last.get("cameras", 0) > 1
    return Signs(
        iterations=len(history),
        images=images,
        clusters=int(last["clusters"]),
        largest=float(last.get("largest_cluster_share", 0.0)),
        outliers=last["outliers"] / images if images else None,
        epsilon_fall=_epsilon_fall(history),
        agreement=last.get("label_agreement"),
        one_camera=last.get("one_camera_clusters") if several_cameras else None,
        exploded=any(_has_rule(line, "explosion") for line in history[-RECENT:]),
        kept="labels_of_iteration" in last or _has_rule(last, "no_cluster"),
    )


def judge(
    history: Sequence[Line], *, healthy_fall: float = HEALTHY_FALL, failed_fall: float = FAILED_FALL
) -> Verdict:
    """Return the verdict on an adaptation after the last line of its history.

    Args:
        history: the lines of ``pseudo_labels.jsonl``, the first iteration first. No identity is read.
        healthy_fall: of epsilon, last over first, up to which a run may be healthy.
        failed_fall: from which it has failed.

    Raises:
        ValueError: if there is no line.
    """
    signs = read_signs(history)
    failures = _failures(signs, failed_fall)
    if failures:
        return Verdict(FAILED, tuple(failures))
    doubts = _doubts(signs, healthy_fall)
    return Verdict(DOUBTFUL, tuple(doubts)) if doubts else Verdict(HEALTHY)


def last_verdict(history: Sequence[Line]) -> Verdict | None:
    """Return the verdict that the last line holds; ``None`` without one, as in earlier versions."""
    entry = history[-1].get("verdict") if history else None
    return None if entry is None else Verdict.from_entry(entry)


def _failures(signs: Signs, failed_fall: float) -> list[str]:
    reasons = []
    if signs.exploded:
        reasons.append("the features or logits have exploded")
    if signs.kept or signs.clusters < 2:
        reasons.append("the images form no clusters any more" if signs.kept else f"{signs.clusters} clusters")
    elif signs.largest >= GIANT:
        reasons.append(f"one cluster holds {signs.largest:.0%} of the clustered images")
    if signs.images is not None and signs.images < FEWEST_IMAGES:
        reasons.append(f"{signs.images} images teach nothing, at least {FEWEST_IMAGES} are needed")
    fall = signs.epsilon_fall
    if fall is not None and fall >= failed_fall:
        reasons.append(f"{_fall_in_words(fall)}: images of one person draw no nearer to each other")
    return reasons


def _doubts(signs: Signs, healthy_fall: float) -> list[str]:
    reasons = []
    if signs.iterations < 2:
        reasons.append("one iteration tells nothing of the next")
    fall, agreement = signs.epsilon_fall, signs.agreement
    if fall is not None and fall > healthy_fall:
        reasons.append(_fall_in_words(fall))
    if signs.iterations > 1 and fall is None:
        reasons.append("epsilon is held, and its fall is what tells most")
    if agreement is not None and agreement < UNSETTLED:
        reasons.append(f"labels still change, agreement with those before {agreement:.2f}")
    if signs.outliers is not None and signs.outliers > MANY_OUTLIERS:
        reasons.append(f"{signs.outliers:.0%} of the images are outliers")
    if signs.one_camera is not None and signs.one_camera >= ONE_CAMERA:
        reasons.append(f"{signs.one_camera:.0%} of the clusters hold one camera alone")
    if signs.clusters < FEW_CLUSTERS:
        reasons.append(f"{signs.clusters} clusters are few")
    if signs.images is not None and signs.images < FEW_IMAGES:
        reasons.append(f"{signs.images} images are few")
    return reasons


def _fall_in_words(fall: float) -> str:
    if fall >= 1:
        return f"epsilon has not fallen, but is {fall:.2f} times what it was"
    return f"epsilon has fallen by {1 - fall:.0%} alone"


def _epsilon_fall(history: Sequence[Line]) -> float | None:
    """Return the last epsilon over the first; nothing where all are one, or the first is 0.

    Each is a share of the distance of unrelated images where the lines tell it, since features that grow
    raise Euclidean distances. Where alpha is chosen anew each iteration, a larger one alone raises epsilon:
    there the radii that both iterations tried with one alpha are compared.
    """
    first, last = history[0], history[-1]
    scale = (first.get("unrelated_distance") or 1.0) / (last.get("unrelated_distance") or 1.0)
    fall = _fall_at_same_alpha(first, last)
    if len(history) > 1 and fall is not None:
        return fall * scale
    held = all(math.isclose(line["epsilon_e"], first["epsilon_e"], rel_tol=1e-6) for line in history)
    if len(history) < 2 or held or not first["epsilon_e"] > 0:
        return None
    return float(last["epsilon_e"] / first["epsilon_e"]) * scale


def _fall_at_same_alpha(first: Line, last: Line) -> float | None:
    """Return last over first epsilon at one alpha that both lines tried; nothing where there is none.

    Of these it is the one nearest to the alpha that the first iteration chose.
    """
    before, after = (
        {round(trial["guess"], 2): float(trial["epsilon"]) for trial in line.get("alpha_trials", ())}
        for line in (first, last)
    )
    common = [guess for guess in before.keys() & after.keys() if before[guess] > 0]
    if not common or not first.get("alpha"):
        return None
    chosen = PAIRS_PER_GUESS / first["alpha"]
    guess = min(sorted(common), key=lambda guess: abs(math.log(guess / chosen)))
    return after[guess] / before[guess]


def _has_rule(line: Line, name: str) -> bool:
    return any(rule.get("rule") == name for rule in line.get("rules", ()))
