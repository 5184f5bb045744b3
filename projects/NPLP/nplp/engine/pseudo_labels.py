"""The pseudo-label hook: how every iteration begins, with the method's labels, the rules and the log."""

import hashlib
import logging
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm

from nplp.clustering import (
    Constraints,
    PseudoLabels,
    average_by_component,
    camera_entropy_weights,
    label_agreement,
    outliers_as_clusters,
    score_weights,
)
from nplp.clustering.sweep import shared_among
from nplp.config.choices import EMBEDDING, TRACKS_AVERAGED
from nplp.data.datasets import Item, index_cameras
from nplp.data.extraction import extract_features
from nplp.data.loaders import TrainSet
from nplp.distributed.agreement import check_agreement
from nplp.distributed.collectives import from_main_process
from nplp.distributed.shares import rank_shares
from nplp.engine.averaging import WeightAverage
from nplp.engine.events import log_histograms
from nplp.engine.iteration_line import in_words, numbers_of, quality_of, signs_of
from nplp.engine.networks import labelled_networks, labelling_model
from nplp.engine.norm_statistics import refresh_statistics, refreshes
from nplp.engine.rules import (
    Finding,
    enforce,
    findings,
    keeps_labels,
    measure_scale,
    still_true,
    without_small_clusters,
)
from nplp.engine.run_record import RunRecord
from nplp.engine.stopping import is_last
from nplp.engine.trace import Trace
from nplp.engine.tracks import check_method, report_changes
from nplp.engine.verdict import judge
from nplp.errors import UserError
from nplp.memory import is_out_of_memory
from nplp.methods import Labelling, Method, NetworkMethod
from nplp.modeling import NPLP

__all__ = ["PseudoLabelHook", "PseudoLabelState"]

logger = logging.getLogger(__name__)

LEAST_SHARE = 0.01
"""How often the worst cluster is drawn, beside one of average score: every cluster is drawn at some time."""


class _Trainer(Protocol):
    """What the hook needs of a trainer."""

    epoch: int
    iter: int
    optimizer: torch.optim.Optimizer

    def reset_train_set(self, train_set: TrainSet, steps_per_epoch: int = 0) -> None: ...


@dataclass
class PseudoLabelState:
    """What an iteration's pseudo-labels are, and what later iterations need of earlier ones.

    Attributes:
        iteration: number of the iteration, from 1; 0 before the first.
        labels: ``[N]`` int64, -1 for outliers.
        first_norm: mean norm of the features at the first iteration; 0 before it.
        agreement: of the labels with those of the iteration before; ``None`` where there are none, or where
            those before were kept.
        score_weights: ``[c]`` float64, the clusters' weights by their scores; ``None``: not used so.
    """

    iteration: int = 0
    labels: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    first_norm: float = 0.0
    agreement: float | None = None
    score_weights: torch.Tensor | None = None

    def is_last(self, options: CfgNode) -> bool:
        """Tell whether the iteration is the run's last, by ``options``, the section NPLP."""
        return self.iteration == options.ITERATIONS or is_last(options.STOP, self.iteration, self.agreement)


class PseudoLabelHook(HookBase):
    """Estimates pseudo-labels every ``NPLP.EPOCHS_PER_ITERATION`` epochs and trains on them.

    All processes estimate, each a share of the pairs, or one alone (NPLP.SHARED_LABELS); what follows, one
    process does. All hold the same labels, state of the method and order. The hook is a checkpointable: its
    state is the labels and the method's own state of the moment.
    """

    trainer: _Trainer

    def __init__(
        self,
        cfg: CfgNode,
        model: NPLP,
        method: Method,
        items: list[Item],
        record: RunRecord,
        identities: np.ndarray | None,
        trace: Trace | None = None,
        teacher: WeightAverage | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        """Prepare for a target set.

        Args:
            cfg: the configuration; ``NPLP`` is read.
            model: gives the features, without a wrapper.
            method: makes the labels.
            items: the ``N`` unlabelled target images.
            record: takes the history and the times.
            identities: ``[N]`` int64 true identities, -1 where unknown, for the logged quality only: no
                label, no threshold and no choice of a model depends on them. ``None`` where all are unknown.
            trace: takes what the run's page shows.
            teacher: the averaged weights, where labels are made of their features.
            constraints: of the ``N`` images, which NPLP.TRACKS says how to use.
        """
        check_method(cfg, method)
        self._cfg = cfg
        self._model = model
        self._method = method
        self._trains_outliers = bool(getattr(method, "trains_outliers", False))
        self._corrects = bool(getattr(method, "corrects", False))
        self._items = items
        self._cameras = index_cameras(items)
        self._record = record
        self._identities = identities
        self._trace = trace
        self._teacher = teacher
        self._constraints = constraints
        self._installed = False
        self.state = PseudoLabelState()

    def before_epoch(self) -> None:
        """Begin an iteration when its first epoch is due; after a resume within one, go on with it."""
        due = self.trainer.epoch // self._cfg.NPLP.EPOCHS_PER_ITERATION + 1
        if due > self.state.iteration:
            self._begin_iteration(due)
        elif not self._installed:
            self._install()

    def after_step(self) -> None:
        """Let a method with further networks follow the optimiser's step."""
        if isinstance(self._method, NetworkMethod):
            self._method.after_step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the method's own as it stands now."""
        return {**vars(self.state), "method": self._method.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a saved state. Version 0.2.0 kept the state of its only method beside the labels.

        Raises:
            UserError: if it belongs to another number of target images.
        """
        if len(state["labels"]) != len(self._items):
            raise UserError(
                f"the checkpoint has pseudo-labels of {len(state['labels'])} images, the target set has "
                f"{len(self._items)}: resume with the data the run began with, or leave --resume out"
            )
        self.state = PseudoLabelState(
            int(state["iteration"]),
            state["labels"],
            float(state.get("first_norm", 0.0)),
            state.get("agreement"),
            state.get("score_weights"),
        )
        self._method.load_state_dict(state.get("method", state))
        self._installed = False

    def _begin_iteration(self, iteration: int) -> None:
        """Label the images by the model, or by its average where that is the teacher."""
        with self._teacher.applied() if self._teacher is not None else nullcontext():
            self._label_images(iteration)
        if isinstance(self._method, NetworkMethod) and self._method.renews_optimizer:
            self.trainer.optimizer.state.clear()
        self._install()

    def _label_images(self, iteration: int) -> None:
        networks = labelled_networks(self._method, self._model)
        if refreshes(self._cfg):
            with self._record.timed("batch-norm statistics"):
                for network in networks:
                    refresh_statistics(self._cfg, network, self._items)
        shared = self._cfg.NPLP.SHARED_LABELS and comm.get_world_size() > 1
        with self._record.timed("extraction"):
            model, name = labelling_model(networks), f"Features, iteration {iteration}"
            with self._model.heads.with_stripes():
                features = extract_features(
                    self._cfg, model, self._items, name, on_device=True, everywhere=shared
                )
        with self._record.timed("estimation"):
            found = self._find_together(iteration, features) if shared else None
            self.state, line, method_state = from_main_process(
                lambda: self._label(iteration, features, found or self._find(iteration, features))
            )
        if comm.is_main_process():
            self._record.history.append(line)
        else:
            self._method.load_state_dict(method_state)

    def _find_together(self, iteration: int, features: torch.Tensor) -> Labelling:
        """Return the method's labels as all processes find them, each a share of the pairs.

        All of them end with the same; the main process goes on with it.

        Raises:
            UserError: as :meth:`_find`, or if the processes' labels differ.
        """
        with shared_among(rank_shares()):
            labelling = self._find(iteration, features)
        estimate = labelling.estimate
        total = hashlib.sha256(estimate.labels.tobytes()).hexdigest()[:12]
        check_agreement({"the pseudo-labels": f"{total} at a radius of {estimate.epsilon_e!r}"})
        return labelling

    def _find(self, iteration: int, features: torch.Tensor) -> Labelling:
        """Return the method's labels of features.

        Raises:
            UserError: if a feature is not finite, or memory does not suffice.
        """
        self._check_finite(iteration, features)
        try:
            return self._labelling(iteration, features)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"iteration {iteration}: the clustering of {len(features)} images does not fit into memory: "
                "lower NPLP.ALPHA or OMP_NUM_THREADS and --resume from the last epoch"
            ) from error

    def _label(
        self, iteration: int, features: torch.Tensor, labelling: Labelling
    ) -> tuple[PseudoLabelState, dict[str, Any], dict[str, Any]]:
        """Return the new state, the line of the history and the method's state; say what was found.

        Raises:
            UserError: if a rule ends the run.
        """
        options, before = self._cfg.NPLP, self.state
        estimate, labels = labelling.estimate, labelling.estimate.labels
        if options.RULES.SMALL_CLUSTERS == "drop":
            labels = without_small_clusters(labels, self._cfg.DATALOADER.NUM_INSTANCE)
        logit = 0.0
        if labels.max(initial=-1) >= 0:
            logit = self._method.begin_iteration(features, labels, self._cameras)
        after_neck = self._cfg.MODEL.HEADS.OUTPUT != EMBEDDING
        scale = measure_scale(labelling.distances, features, before.first_norm, logit, after_neck)
        remarks = findings(self._cfg, labelling, labels, before.labels.numpy(), scale, self._trains_outliers)
        rejected: np.ndarray | None = None
        agreement: float | None = None
        if keeps_labels(remarks):
            line, estimate, rejected = self._kept(iteration, estimate, labels, remarks)
            labels, weights = before.labels.numpy(), before.score_weights
            self._method.begin_iteration(features, labels, self._cameras)
        else:
            weights = self._score_weights(estimate, labels)
            if before.iteration:
                agreement = label_agreement(labels, before.labels.numpy())
            line = self._line(iteration, estimate, labels, remarks, agreement)
        line["unrelated_distance"] = scale.unrelated
        if not options.K1:
            line["k1"] = labelling.distances.k1
        verdict = judge([*self._record.history, line])
        line["verdict"] = verdict.entry()
        state = PseudoLabelState(iteration, torch.from_numpy(labels), scale.first_norm, agreement, weights)
        logger.info("%s", in_words(line, options.ITERATIONS, len(labels)))
        for finding in remarks:
            said = finding.rule.replace("_", " ")
            if rejected is not None and not still_true(finding):
                said = f"rejected labels, {said}"
            logger.log(finding.level, "  %s: %s", said, finding.text)
        logger.info("  Verdict so far: %s", verdict)
        enforce(remarks, iteration)
        log_histograms(labels, estimate.self_assessment, self.trainer.iter)
        if self._trace is not None:
            last = state.is_last(options)
            self._trace.iteration(iteration, estimate, labels, features, labelling.distances, rejected, last)
        return state, line, self._method.state_dict()

    def _labelling(self, iteration: int, features: torch.Tensor) -> Labelling:
        """Return the method's labels, by what is known of tracks."""
        known = self._constraints
        if known is None:
            # A method that knows nothing of constraints serves.
            return self._method.label(iteration, features, self._cameras)
        if self._cfg.NPLP.TRACKS == TRACKS_AVERAGED:
            return self._method.label(iteration, average_by_component(features, known), self._cameras)
        return self._method.label(iteration, features, self._cameras, known)

    def _score_weights(self, estimate: PseudoLabels, labels: np.ndarray) -> torch.Tensor | None:
        """Return the weights of the clusters of labels [N] by their scores, where these are used so."""
        used = self._cfg.NPLP.SCORE_WEIGHT or self._cfg.NPLP.SCORE_SAMPLING
        if not (used and len(estimate.self_assessment)):
            return None
        return torch.from_numpy(score_weights(estimate.self_assessment, estimate.startup_labels, labels))

    def _check_finite(self, iteration: int, features: torch.Tensor) -> None:
        """Look for features that are infinite or not a number.

        Raises:
            UserError: with their number and the first image.
        """
        bad = torch.nonzero(~torch.isfinite(features).all(dim=1)).flatten()
        if len(bad):
            raise UserError(
                f"iteration {iteration}: the features of {len(bad)} of {len(features)} images are infinite "
                f"or not a number, first those of {self._items[int(bad[0])][0]}: lower SOLVER.BASE_LR; what "
                "the last checkpoint holds is kept"
            )

    def _install(self) -> None:
        """Hand the labels to the trainer."""
        labels = self.state.labels.numpy()
        if self._trains_outliers:
            labels = outliers_as_clusters(labels)
        weights = None
        if self._cfg.NPLP.CAMERA_ENTROPY_WEIGHT:
            weights = camera_entropy_weights(labels, self._cameras)
        by_score = None if self.state.score_weights is None else self.state.score_weights.numpy()
        if by_score is not None and self._cfg.NPLP.SCORE_WEIGHT:
            weights = by_score if weights is None else weights * by_score
        two_views = isinstance(self._method, NetworkMethod) and self._method.two_views
        train_set = TrainSet(
            self._cfg,
            self._items,
            labels,
            self._cameras,
            weights,
            two_views=two_views,
            singles=self._trains_outliers,
            cluster_shares=self._shares(by_score),
        )
        self.trainer.reset_train_set(train_set, self._cfg.NPLP.STEPS_PER_EPOCH)
        self._installed = True

    def _shares(self, by_score: np.ndarray | None) -> np.ndarray | None:
        """Return how often each cluster is drawn by its score's weight [c], where that is asked for."""
        if by_score is None or not self._cfg.NPLP.SCORE_SAMPLING:
            return None
        return np.maximum(by_score, LEAST_SHARE)

    def _line(
        self,
        iteration: int,
        estimate: PseudoLabels,
        labels: np.ndarray,
        remarks: list[Finding],
        agreement: float | None = None,
    ) -> dict[str, Any]:
        """Return the iteration's line of ``pseudo_labels.jsonl``."""
        corrected = self._corrects and iteration > self._cfg.NPLP.STARTUP_ITERATIONS

        def quality(of: np.ndarray) -> dict[str, Any]:
            return quality_of(of, self._identities, self._cameras)

        return {
            "iteration": iteration,
            "stage": "correcting" if corrected else "startup",
            **numbers_of(estimate, labels),
            **signs_of(estimate, labels, self._cameras, agreement),
            "rules": [finding.line() for finding in remarks],
            **quality(labels),
            **report_changes(estimate, quality(estimate.unconstrained_labels)),
        }

    def _kept(
        self, iteration: int, estimate: PseudoLabels, labels: np.ndarray, remarks: list[Finding]
    ) -> tuple[dict[str, Any], PseudoLabels, np.ndarray]:
        """Return line and estimate of an iteration that keeps the labels of the one before.

        Both describe what is trained on. What was estimated instead is in the line under ``rejected``, with
        what the rules say of it, and comes back as labels ``[N]``.
        """
        kept = self.state.labels.numpy()
        before = next(
            line for line in reversed(self._record.history) if line["iteration"] == self.state.iteration
        )
        none = np.empty(0, dtype=np.int64)
        trained_on = replace(
            estimate,
            labels=kept,
            startup_labels=kept,
            epsilon_e=before["epsilon_e"],
            epsilon_c=before["epsilon_c"],
            self_assessment=none.astype(np.float64),
            noisy_clusters=none,
            dissolved_clusters=none,
            changes=None,
            unconstrained_labels=none,
        )
        line = self._line(
            iteration, trained_on, kept, [finding for finding in remarks if still_true(finding)]
        )
        line["labels_of_iteration"] = before.get("labels_of_iteration", before["iteration"])
        rules = [finding.line() for finding in remarks if not still_true(finding)]
        line["rejected"] = {**numbers_of(estimate, labels), "rules": rules}
        return line, trained_on, labels
