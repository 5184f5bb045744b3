"""Mutual mean-teaching: two networks, each of which learns from the other's mean teacher too.

Ge, Chen and Li, ICLR 2020, arXiv 2001.01526, in the form with DBSCAN that its authors' code has. There are
four networks of one architecture: two that train and the running mean of each, its teacher. The model of the
run is the first teacher: it is evaluated and saved. The authors evaluate both teachers after each epoch and
take the best by the test set's identities; here nothing is chosen.

An iteration:

1. The features BN(f_e) of both teachers, each L2-normalised, are averaged and normalised again, and clustered
   by DBSCAN on their k-reciprocal Jaccard distance; the radius is that of the first iteration, the mean of
   the smallest share of all distances above 0.
2. The classifiers' rows of both networks and both teachers become the clusters' L2-normalised means; the
   optimiser forgets its moments.
3. In each step network k and teacher k see the k-th augmentation of the images. Network k minimises the
   :class:`MutualTeachingLoss` of its f_e and its logits W BN(f_e), with the other's teacher for a reference.
4. Then each teacher moves: theta' <- a theta' + (1 - a) theta, a = min(1 - 1 / (t + 1), decay), where t is
   the number of steps before, in the whole run. After the first step a teacher so is its network. Weights
   alone are averaged: a teacher's batch norms are in training mode and keep running statistics of their own.

Where it differs from its authors' code:

* The optimiser begins anew with each iteration, as the labels do; there an iteration is always one epoch.
* Their source training forwards target images too, for the statistics of batch norms. The source models here
  have not seen the target.
* With one source model both pairs begin from its weights, and differ by their images alone. Theirs are two.
* Their backbone has no ReLU after its first batch norm; here it is the toolbox's.

Time and memory: a step runs four networks forward and two back, about 2.7 times that of one network, and an
iteration extracts features of two. Memory: four networks, the moments of two, and 4 N D values of rows.

Shapes: N target images, c clusters, B images in a batch, D values of a feature.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from torch import nn
from torch.nn import functional as F

from nplp.clustering import Constraints
from nplp.errors import UserError
from nplp.losses import MutualTeachingLoss, cluster_centroids
from nplp.losses.registry import MUTUAL_TEACHING
from nplp.methods.first_radius import FIRST_RADIUS, check_first_radius, first_radius_labels
from nplp.methods.protocol import DistanceSettings, Labelling
from nplp.methods.registry import check_options, register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["MutualMeanTeaching"]

LOGS = ("loss_classes", "loss_soft_classes", "loss_triplets", "loss_soft_triplets")
OPTIONS = {
    # The radius of the first iteration, and the neighbours: RHO, MIN_SAMPLES, K1 and K2 as in "uda".
    **FIRST_RADIUS,
    # What a teacher keeps of itself at each step, from about the step 1 / (1 - DECAY) on.
    "DECAY": 0.999,
    # Weights of a second source model of the same architecture, trained with another seed. Empty: those of
    # the first one, which makes the two networks much alike.
    "SECOND_WEIGHTS": "",
    # Whether each network has its own augmentation of a batch's images, as in the authors' code. False
    # transforms each image once, and needs SECOND_WEIGHTS: the two networks would be the same for ever.
    "TWO_VIEWS": True,
}


@register_method("mmt", options=OPTIONS)
class MutualMeanTeaching:
    """Trains two networks that teach each other through their running means.

    Its state is the radius, the numbers of clusters and of steps, and, until the first step of an iteration,
    the rows of the classifiers. Networks and rows after that are the engine's to keep.

    Args:
        cfg: the configuration.
        model: without a wrapper; it becomes the first teacher, whose weights require no gradient.

    Raises:
        UserError: if the model's losses or feature are not those of the method, an option is out of its
            range, or something is asked for that the method cannot do.
    """

    renews_optimizer = True

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, MUTUAL_TEACHING, "f_bn")
        self._options = options = cfg.NPLP.MMT
        _check(cfg, options)
        self._cfg = cfg
        self._model = model
        self.two_views = bool(options.TWO_VIEWS)
        loss = model.criteria[MUTUAL_TEACHING]
        assert isinstance(loss, MutualTeachingLoss)
        self._loss = loss
        self._epsilon = 0.0
        self._clusters = 0
        self._steps = 0
        self._means: torch.Tensor | None = None

    def build_networks(self, images: int) -> nn.Module:
        """Return the two networks, the second teacher and the rows [N, D] of the four classifiers."""
        students = [build_model(self._cfg) for _ in range(2)]
        teachers = [self._model, build_model(self._cfg)]
        width = self._model.heads.embedding_dim
        rows = nn.ParameterList([nn.Parameter(torch.zeros(images, width)) for _ in range(4)])
        for module in (*teachers, rows[2], rows[3]):
            module.requires_grad_(False)
        self._students, self._teachers, self._rows = students, teachers, rows
        return nn.ModuleDict(
            {"students": nn.ModuleList(students), "second_teacher": teachers[1], "rows": rows}
        )

    def start(self, load: Callable[[nn.Module, str], None]) -> str:
        """Begin from the source model, or from two."""
        second = self._options.SECOND_WEIGHTS
        if second:
            load(self._teachers[1], second)
        else:
            self._teachers[1].load_state_dict(self._model.state_dict())
        for student, teacher in zip(self._students, self._teachers, strict=True):
            student.load_state_dict(teacher.state_dict())
        if second:
            return f"Two networks with a mean teacher each; the second begins from {second}"
        return (
            "Two networks with a mean teacher each, from one source model: they differ by their augmentations"
            " alone (NPLP.MMT.SECOND_WEIGHTS takes a second one)"
        )

    def labelled_networks(self) -> Sequence[NPLP]:
        """Return both teachers."""
        return self._teachers

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Cluster the mean features by the first iteration's radius."""
        del iteration
        options = self._options
        distances = DistanceSettings("relative_jaccard", k1=options.K1, k2=options.K2)
        estimate = first_radius_labels(options, distances, features, cameras, self._epsilon, constraints)
        self._epsilon = self._epsilon or estimate.epsilon_e
        return Labelling(estimate, distances, "NPLP.MMT.RHO", "NPLP.MMT.MIN_SAMPLES")

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Start all rows as the L2-normalised means of the clusters' features."""
        del cameras
        clusters = int(labels.max()) + 1
        means = cluster_centroids(F.normalize(features), torch.from_numpy(labels), clusters)
        self._take_means(F.normalize(means).cpu())
        return 0.0

    @torch.no_grad()
    def _take_means(self, means: torch.Tensor) -> None:
        self._means = means
        self._clusters = len(means)
        for rows in self._rows:
            rows[: len(means)] = means.to(rows)

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the sums over both networks of the four losses, each times its share.

        Args:
            output: the first teacher's, for the first view.
            batch: with "second_images" where there are two views.
        """
        views = [batch, {**batch, "images": batch["second_images"]} if self.two_views else batch]
        with torch.no_grad():
            taught = [self._read(output, 2), self._read(self._teachers[1].output(views[1]), 3)]
        found = [
            self._loss.of_network(
                self._read(student.output(views[number]), number),
                taught[1 - number],
                batch["targets"],
                batch.get("weights"),
            )
            for number, student in enumerate(self._students)
        ]
        return {name: first + second for name, first, second in zip(LOGS, *found, strict=True)}

    def _read(self, output: HeadOutput, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return f_e [B, D] and the logits [B, c] by the rows of a network, in the rows' precision."""
        rows = self._rows[number][: self._clusters]
        assert output.f_bn is not None
        with torch.autocast(rows.device.type, enabled=False):
            return output.f_e, output.f_bn.to(rows.dtype) @ rows.T

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the teachers' weights towards their networks'."""
        kept = min(1 - 1 / (self._steps + 1), self._options.DECAY)
        for number, (student, teacher) in enumerate(zip(self._students, self._teachers, strict=True)):
            self._rows[2 + number].mul_(kept).add_(self._rows[number], alpha=1 - kept)
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.mul_(kept).add_(fast, alpha=1 - kept)
        self._steps += 1
        self._means = None

    def state_dict(self) -> dict[str, Any]:
        """Return the radius, the numbers of clusters and steps, and rows that no step has moved yet."""
        state = {"epsilon": self._epsilon, "clusters": self._clusters, "steps": self._steps}
        return state if self._means is None else {**state, "means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, beside the networks' own."""
        self._epsilon = float(state["epsilon"])
        self._clusters = int(state["clusters"])
        self._steps = int(state["steps"])
        self._means = None
        if "means" in state:
            self._take_means(state["means"])


def _check(cfg: CfgNode, options: CfgNode) -> None:
    """Check the options, and what the method cannot do.

    Raises:
        UserError: naming the first key whose value does not fit.
    """
    check_first_radius("NPLP.MMT", options)
    check_options(
        "NPLP.MMT",
        options,
        ("DECAY", 0 <= options.DECAY < 1, "in [0, 1)"),
        ("TWO_VIEWS", options.TWO_VIEWS or options.SECOND_WEIGHTS != "", "True with one source model"),
    )
    names = tuple(cfg.MODEL.LOSSES.NAME)
    for key, value, holds, rule in (
        ("MODEL.LOSSES.NAME", names, names == (MUTUAL_TEACHING,), f"('{MUTUAL_TEACHING}',) alone"),
        ("NPLP.EMA", cfg.NPLP.EMA, not cfg.NPLP.EMA, "False: the teachers are running means"),
        ("SOLVER.HEADS_LR_FACTOR", factor := cfg.SOLVER.HEADS_LR_FACTOR, factor == 1, "1"),
    ):
        if not holds:
            raise UserError(f"{key} must be {rule} with NPLP.METHOD mmt, got {value!r}")
