"""Measures the statistics of the target's cameras with a model and puts them into it."""

import logging

import torch
from fastreid.config import CfgNode

from nplp.data.datasets import Item, index_cameras
from nplp.data.extraction import extract_features
from nplp.distributed.collectives import from_main_process
from nplp.errors import UserError
from nplp.modeling import NPLP
from nplp.modeling.camera_statistics import LEAST_FOR_MEAN, Statistics, statistics_by_camera

__all__ = ["measure_camera_statistics"]

logger = logging.getLogger(__name__)


def measure_camera_statistics(cfg: CfgNode, model: NPLP, items: list[Item]) -> None:
    """Measure each camera's mean feature and deviation with the model's present weights; it keeps them.

    Every rank must call this and ends with the same. The ranks share the extraction; one process measures.

    Args:
        cfg: the configuration.
        model: without a wrapper, with ``TEST.CAMERAS`` on.
        items: N training images of the target, never test images. Identities are not looked at.

    Raises:
        UserError: if a feature is infinite or not a number.
    """
    assert model.cameras is not None
    assert model.camera_statistics is not None
    features = extract_features(cfg, model, items, "Camera statistics")
    names = sorted({str(camera) for _, _, camera in items})
    rows = torch.from_numpy(index_cameras(items))

    def measure() -> Statistics:
        try:
            return statistics_by_camera(features, rows, len(names))
        except ValueError as error:
            raise UserError(
                f"the target's training images: {error}: lower SOLVER.BASE_LR, or give other weights; what "
                "was saved is kept"
            ) from error

    statistics = from_main_process(measure)
    known_before = model.cameras.known
    model.cameras.assign(names)
    model.camera_statistics.assign(statistics)
    if known_before == model.cameras.known:
        return
    counts = statistics.count[:-1].numpy()
    small = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < LEAST_FOR_MEAN]
    logger.info(
        "  Camera statistics: %d cameras, %d to %d images each%s",
        *(len(names), counts.min(), counts.max()),
        f"; of too few images, so that the overall mean serves: {', '.join(small)}" if small else "",
    )
