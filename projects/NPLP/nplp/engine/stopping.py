"""The rule that ends an adaptation whose pseudo-labels have settled, by the labels alone."""

from fastreid.config import CfgNode

__all__ = ["is_last"]


def is_last(stop: CfgNode, iteration: int, agreement: float | None) -> bool:
    """Tell whether the run is to end after an iteration.

    Args:
        stop: the section NPLP.STOP of the configuration.
        iteration: its number, from 1.
        agreement: of its labels with those of the iteration before, see
            :func:`nplp.clustering.label_agreement`; ``None`` where it has no labels of its own to compare.
    """
    if not stop.AGREEMENT or agreement is None:
        return False
    return iteration >= stop.MIN_ITERATIONS and agreement >= stop.AGREEMENT
