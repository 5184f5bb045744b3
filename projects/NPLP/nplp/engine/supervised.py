"""Training with true identities: the source pre-training of eq. 3, or any stock model of the toolbox."""

import logging

import numpy as np
from fastreid.config import CfgNode
from fastreid.engine import hooks
from fastreid.utils.events import get_event_storage

from nplp.config.keys import SOURCE_LOSSES
from nplp.data.datasets import Item, ReidData, index_cameras, load_training_items
from nplp.data.loaders import TrainSet
from nplp.engine.evaluating import evaluate, scalars
from nplp.engine.same_run import check_same_data
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.losses import LOSSES

__all__ = ["SupervisedTrainer", "load_labelled", "means_nothing_to_source", "source_key"]

logger = logging.getLogger(__name__)


def load_labelled(cfg: CfgNode) -> tuple[list[Item], np.ndarray, np.ndarray]:
    """Return the items of ``DATASETS.NAMES`` with contiguous identities and cameras, ``[N]`` int64 each.

    Raises:
        UserError: if an image cannot be read or has no identity, or fewer than two identities are there.
    """
    items = load_training_items(cfg, labelled=True)
    check_same_data(f"the training images of {', '.join(cfg.DATASETS.NAMES)}", items)
    names, labels = np.unique([str(item[1]) for item in items], return_inverse=True)
    if len(names) < 2:
        raise UserError(
            f"training with identities needs at least 2 of them, "
            f"{', '.join(cfg.DATASETS.NAMES)} has {len(names)}: use another source"
        )
    return items, labels.astype(np.int64), index_cameras(items)


def means_nothing_to_source(key: str) -> bool:
    """Tell whether a key means nothing to the pre-training; ``NPLP.SOURCE`` stands in ``SOLVER`` there."""
    if key == "NPLP.SAME_AT_ANY_WORLD_SIZE":
        return False
    return key == "MODEL.WEIGHTS" or key.startswith(
        (
            *("NPLP.", "TEST.", "DATASETS.TESTS", "DATASETS.SYNTHETIC.TEST_IDENTITIES"),
            *(
                f"MODEL.LOSSES.{loss.section}."
                for loss in LOSSES.values()
                if loss.section and loss.name not in SOURCE_LOSSES
            ),
        )
    )


def source_key(key: str, cfg: CfgNode) -> str:
    """Return the key of ``NPLP.SOURCE`` that replaces ``key`` while pre-training, or ``key``."""
    if key == "DATASETS.NAMES":
        return "NPLP.SOURCE.DATASETS"
    section, _, name = key.rpartition(".")
    others = ("DATALOADER.NUM_INSTANCE", "MODEL.NORM_CHUNK")
    replaced = (section == "SOLVER" and name in cfg.NPLP.SOURCE) or key in others
    return f"NPLP.SOURCE.{name}" if replaced else key


class SupervisedTrainer(ReidTrainer):
    """Trains ``cfg``'s model with the identities of ``DATASETS.NAMES``."""

    def __init__(self, cfg: CfgNode, test_sets: list[ReidData]) -> None:
        """Load the training set, size the classifier by its identities and build the rest.

        Args:
            cfg: the configuration; ``MODEL.HEADS.NUM_CLASSES`` 0 becomes the number of identities.
            test_sets: evaluated every ``TEST.EVAL_PERIOD`` epochs; 0 never evaluates.
        """
        self._is_source = cfg.MODEL.META_ARCHITECTURE == "NPLP"
        items, labels, cameras = load_labelled(cfg)
        if not cfg.MODEL.HEADS.NUM_CLASSES:
            # Not by the toolbox's auto_scale_hyperparams, which writes config.yaml at once.
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.HEADS.NUM_CLASSES = int(labels.max()) + 1
            cfg.freeze()
        self._test_sets = test_sets
        super().__init__(cfg)
        self.reset_train_set(TrainSet(cfg, items, labels, cameras))

    def means_nothing(self, key: str) -> bool:
        """Tell whether a key means nothing to this training, such as those of the adaptation that follows."""
        if self._is_source:
            return means_nothing_to_source(key)
        return key.startswith("NPLP.") or (key == "MODEL.WEIGHTS" and not self.cfg.MODEL.WEIGHTS)

    def shown_key(self, key: str) -> str:
        """Return ``NPLP.SOURCE.KEY`` for what it replaces while pre-training."""
        return source_key(key, self.cfg) if self._is_source else key

    def build_stage_hooks(self) -> list[hooks.HookBase]:
        """Return a hook that reports each epoch and evaluates by ``TEST.EVAL_PERIOD``."""
        return [hooks.CallbackHook(after_epoch=SupervisedTrainer._report)]

    def _report(self) -> None:
        loss = get_event_storage().latest().get("total_loss", (float("nan"), 0))[0]
        logger.info("Epoch %d of %d: loss %.3f", self.epoch + 1, self.max_epoch, loss)
        period = self.cfg.TEST.EVAL_PERIOD
        if period and (self.epoch + 1) % period == 0:
            metrics = evaluate(self.cfg, self.model, self._test_sets)
            if metrics:
                self.storage.put_scalars(**scalars(metrics), smoothing_hint=False)
                logger.info("Rank-1 %.2f, mAP %.2f", metrics["Rank-1"], metrics["mAP"])
