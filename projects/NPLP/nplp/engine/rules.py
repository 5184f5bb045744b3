"""What is looked at in the pseudo-labels of an iteration before hours are spent on them.

The paper defines its method where clusters are many and sound. Each rule here is about one way in which
they are not; ``NPLP.RULES`` says what is then done, and ``docs/degenerate_clusterings.md`` why.
"""

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.clustering import PseudoLabels
from nplp.clustering.assessment import all_equal
from nplp.clustering.giants import is_giant
from nplp.errors import UserError
from nplp.methods import DistanceSettings, Labelling

__all__ = [
    "Finding",
    "Scale",
    "changes_labels",
    "enforce",
    "findings",
    "keeps_labels",
    "measure_scale",
    "still_true",
    "without_small_clusters",
]

FEWEST_CLUSTERS = 2
"""With one cluster both losses of eq. 12 are zero."""
MANY_OUTLIERS = 0.55
LARGE_LOGIT = 100.0
NORM_GROWTH = 10.0
FAR = 0.9
"""Share of the distance of unrelated images from which on epsilon tells nothing apart."""
SIZE_CHANGE = 10.0
NO_NORM = 1e-12
ROWS_AT_ONCE = 8192
CHANGING = {
    "no_cluster": ("keep",),
    "giant_cluster": ("lowered", "dropped"),
    "equal_scores": ("skip",),
    "small_clusters": ("drop",),
}
"""Rules and those of their actions that train on other labels than the paper's equations give."""
ROUTINE = ("dissolved", "small_clusters")
"""Rules whose finding is part of most runs, and no warning."""


@dataclass(frozen=True)
class Finding:
    """One rule that has something to say of an iteration.

    Attributes:
        rule: its key in ``NPLP.RULES``, in lower case.
        action: what is done: a value of that key, or ``report``.
        text: what was found, in words.
        values: the same in numbers, for ``pseudo_labels.jsonl``.
    """

    rule: str
    action: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> int:
        """The level of its line in the log."""
        return logging.INFO if self.rule in ROUTINE else logging.WARNING

    def line(self) -> dict[str, Any]:
        """Return the entry of ``rules`` in ``pseudo_labels.jsonl``."""
        return {"rule": self.rule, "action": self.action, "text": self.text, **self.values}


def changes_labels(rule: str, action: str) -> bool:
    """Tell whether an entry of ``rules`` in ``pseudo_labels.jsonl`` is of labels that a rule changed."""
    return action in CHANGING.get(rule, ())


@dataclass(frozen=True)
class Scale:
    """How large features and logits are at the beginning of an iteration.

    Attributes:
        norm: mean length of the features.
        first_norm: the same at the first iteration.
        logit: the largest of the method's loss; 0 where logits have a bound.
        unrelated: the distance at which two images have nothing in common, in the clustering's unit.
    """

    norm: float
    first_norm: float
    logit: float
    unrelated: float


def measure_scale(
    distances: DistanceSettings,
    features: torch.Tensor,
    first_norm: float,
    logit: float,
    after_neck: bool = False,
) -> Scale:
    """Return how large features and logits are.

    Args:
        distances: how the method measures distances.
        features: ``[N, D]`` float32, as the model gave them, on any device.
        first_norm: mean norm at the first iteration; 0 where this is it.
        logit: the largest, as the method says.
        after_neck: whether features come from the BN neck. A neck that is new gives them a norm of about
            sqrt(D) as it is trained, whatever it was at first, which is no growth to warn of.
    """
    norms = torch.linalg.vector_norm(features, dim=1).double()
    norm = float(norms.mean())
    unrelated = 1.0
    if distances.name == "euclidean" and distances.camera_scaling:
        # Unit vectors in all directions.
        unrelated = math.sqrt(2)
    elif distances.name == "euclidean":
        # The root of the mean squared distance over all pairs is that of twice the variance.
        weights = 1 / norms.clamp_min(NO_NORM) if distances.normalize else torch.ones_like(norms)
        centre = sum(
            (block.double() * weight[:, None]).sum(0)
            for block, weight in zip(features.split(ROWS_AT_ONCE), weights.split(ROWS_AT_ONCE), strict=True)
        )
        centre = torch.as_tensor(centre) / max(1, len(features))
        variance = float((norms * weights).square().mean() - centre.square().sum())
        unrelated = math.sqrt(max(0.0, 2 * variance))
    least = math.sqrt(features.shape[1]) if after_neck else 0.0
    return Scale(norm=norm, first_norm=first_norm or max(norm, least), logit=logit, unrelated=unrelated)


def without_small_clusters(labels: np.ndarray, least: int) -> np.ndarray:
    """Return labels ``[N]`` in which clusters of fewer than ``least`` images are outliers, without gaps."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    kept = sizes >= least
    renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    return renumbered[labels].astype(np.int64)


def findings(
    cfg: CfgNode,
    labelling: Labelling,
    labels: np.ndarray,
    previous: np.ndarray,
    scale: Scale,
    trains_outliers: bool = False,
) -> list[Finding]:
    """Return what the rules find in an iteration's pseudo-labels.

    Args:
        cfg: the configuration; ``NPLP.RULES``, ``SOLVER.IMS_PER_BATCH`` and ``DATALOADER.NUM_INSTANCE``.
        labelling: what the method says of the images.
        labels: ``[N]`` int64, the labels after correction and the rule of small clusters.
        previous: ``[N]`` int64, those of the iteration before; empty at the first.
        scale: of the features that the labels come from.
        trains_outliers: whether the method trains on outliers too, each as a cluster of one.
    """
    rules, found, radius_key = cfg.NPLP.RULES, labelling.estimate, labelling.radius_key
    clusters, before = int(labels.max(initial=-1)) + 1, int(previous.max(initial=-1)) + 1
    remarks = [
        *_about_epsilon(rules, labelling, scale),
        *_about_giants(rules, labelling),
        *_about_scores(cfg.NPLP, found),
        *_about_batches(cfg, found.labels, clusters, trains_outliers),
        *_about_scale(rules, scale),
    ]
    outliers = float((labels < 0).mean())
    if outliers > MANY_OUTLIERS:
        part = "are each a cluster of one" if trains_outliers else "take no part"
        text = f"{outliers:.0%} of the images are outliers and {part}: {radius_key} may be too small"
        remarks.append(Finding("many_outliers", rules.MANY_OUTLIERS, text, {"share": outliers}))
    if min(clusters, before) and not 1 / SIZE_CHANGE < clusters / before < SIZE_CHANGE:
        text = f"{clusters} clusters, {before} in the iteration before"
        remarks.append(
            Finding("size_change", rules.SIZE_CHANGE, text, {"clusters": clusters, "before": before})
        )
    if clusters < FEWEST_CLUSTERS:
        remarks.append(_too_few(rules, labelling, clusters, before))
    return remarks


def keeps_labels(remarks: list[Finding]) -> bool:
    """Tell whether the labels of the iteration before are to be trained on once more."""
    return any(finding.rule == "no_cluster" and finding.action == "keep" for finding in remarks)


def still_true(finding: Finding) -> bool:
    """Tell whether a finding holds of an iteration that keeps the labels of the one before.

    The others speak of the labels that are not trained on.
    """
    return finding.rule in ("no_cluster", "explosion")


def enforce(remarks: list[Finding], iteration: int) -> None:
    """End the run where a rule says so.

    Raises:
        UserError: for the first finding whose action is ``stop``.
    """
    for finding in remarks:
        if finding.action == "stop":
            raise UserError(
                f"iteration {iteration}: {finding.text}; NPLP.RULES.{finding.rule.upper()} stops the run, "
                "and what the last checkpoint holds is kept"
            )


def _too_few(rules: CfgNode, labelling: Labelling, clusters: int, before: int) -> Finding:
    found = labelling.estimate
    text = (
        f"{clusters or 'no'} cluster of {len(found.labels)} images within epsilon {found.epsilon_e:.4g}, and "
        f"fewer than 2 teach nothing (raise {labelling.radius_key} or lower {labelling.density_key} for more)"
    )
    action = rules.NO_CLUSTER if before >= FEWEST_CLUSTERS else "stop"
    if action == "keep":
        text += ": the labels of the iteration before are trained on once more"
    return Finding("no_cluster", action, text, {"clusters": clusters})


def _about_epsilon(rules: CfgNode, labelling: Labelling, scale: Scale) -> list[Finding]:
    key, epsilon = labelling.radius_key, labelling.estimate.literal_epsilon
    if epsilon == 0:
        text = "epsilon is 0: so many images have the same features that only these can form clusters"
    elif epsilon >= FAR * scale.unrelated:
        text = f"epsilon {epsilon:.4g} reaches images with nothing in common: {key} is too large"
    else:
        return []
    return [Finding("epsilon", rules.EPSILON, text, {"epsilon": epsilon})]


def _about_giants(rules: CfgNode, labelling: Labelling) -> list[Finding]:
    found = labelling.estimate
    values = {"literal_epsilon": found.literal_epsilon}
    if found.giant_clusters:
        least = f"{rules.GIANT_SHARE:.0%}"
        what = f"epsilon {found.literal_epsilon:.4g} chains {least} of all images or more together"
        done = (
            f"lowered to {found.epsilon_e:.4g}"
            if found.epsilon_e < found.literal_epsilon
            else "no smaller one breaks them up, so that they are left out"
        )
        return [Finding("giant_cluster", found.giant_clusters, f"{what}: {done}", values)]
    if not is_giant(found.startup_labels, rules.GIANT_SHARE).any():
        return []
    share = float(np.bincount(found.startup_labels[found.startup_labels >= 0]).max() / len(found.labels))
    text = f"one cluster chains {share:.0%} of all images together: {labelling.radius_key} is too large"
    return [Finding("giant_cluster", rules.GIANT_CLUSTER, text, {**values, "share": share})]


def _about_scores(options: CfgNode, found: PseudoLabels) -> list[Finding]:
    remarks = []
    if all_equal(found.self_assessment):
        action = options.RULES.EQUAL_SCORES
        done = "none is clustered again" if action == "skip" else "the first ones are clustered again"
        text = f"all clusters have the same self-assessment score: {done}"
        remarks.append(Finding("equal_scores", action, text, {"score": float(found.self_assessment[0])}))
    dissolved = len(found.dissolved_clusters)
    if dissolved:
        text = f"{dissolved} of {len(found.noisy_clusters)} noisy clusters dissolve when clustered again"
        remarks.append(Finding("dissolved", options.DISSOLVED, text, {"clusters": dissolved}))
    return remarks


def _about_batches(cfg: CfgNode, labels: np.ndarray, clusters: int, trains_outliers: bool) -> list[Finding]:
    """Look for fewer clusters than P, among those that train, and clusters of fewer images than K."""
    rules, instances = cfg.NPLP.RULES, cfg.DATALOADER.NUM_INSTANCE
    # Clusters of one fill up a batch.
    wanted = 0 if trains_outliers else cfg.SOLVER.IMS_PER_BATCH // instances
    remarks = []
    if FEWEST_CLUSTERS <= clusters < wanted:
        text = f"{clusters} clusters, fewer than the {wanted} of a batch, which has some of them twice"
        remarks.append(Finding("few_clusters", rules.FEW_CLUSTERS, text, {"clusters": clusters}))
    small = int((np.bincount(labels[labels >= 0], minlength=1) < instances).sum()) if labels.max() >= 0 else 0
    if small:
        action = rules.SMALL_CLUSTERS
        done = "left out" if action == "drop" else "some images come twice in a batch"
        text = f"{small} clusters have fewer than {instances} images: {done}"
        remarks.append(Finding("small_clusters", action, text, {"clusters": small}))
    return remarks


def _about_scale(rules: CfgNode, scale: Scale) -> list[Finding]:
    found = []
    if scale.norm > NORM_GROWTH * scale.first_norm:
        found.append(f"features have grown from a norm of {scale.first_norm:.3g} to {scale.norm:.3g}")
    if scale.logit > LARGE_LOGIT:
        found.append(f"the largest logit is {scale.logit:.3g}")
    if not found:
        return []
    text = f"{' and '.join(found)} while the losses are finite: lower SOLVER.BASE_LR"
    return [Finding("explosion", rules.EXPLOSION, text, {"norm": scale.norm, "logit": scale.logit})]
