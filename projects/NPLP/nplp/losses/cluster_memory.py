"""The cluster memory of cluster contrast (Dai et al., arXiv 2103.11568): one L2-normalised row a cluster."""

from .table_contrast import TableContrast

__all__ = ["ClusterMemoryLoss"]


class ClusterMemoryLoss(TableContrast):
    """InfoNCE of L2-normalised features x against the memory M of the clusters.

    L = -1/B sum_a log( exp(M_i^T x_a / tau) / sum_j exp(M_j^T x_a / tau) ), i the cluster of image a.
    In the backward pass each sample, in batch order, updates the row of its cluster:

    M_i <- momentum M_i + (1 - momentum) x, then M_i <- M_i / |M_i|.

    ``momentum`` is the share of the OLD row that is kept, as its authors define it; an average over time
    reads the same word the other way round. With 0.1 and 16 images of an identity in a batch the row ends as
    about 90% the last of them.

    With ``hard``, the hard variant of its authors, only the least similar image of each identity in the batch
    updates the row, once. At one momentum the row then moves less: 16 images leave 0.1^16 of it, one 0.1.

    Args:
        temperature: tau > 0.
        momentum: share of the old row that one sample leaves, in [0, 1].
        hard: update by the least similar image of each identity alone.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, temperature: float = 0.05, momentum: float = 0.1, hard: bool = False) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        super().__init__(normalize=True, temperature=temperature, update=True, kept=momentum, hard=hard)
