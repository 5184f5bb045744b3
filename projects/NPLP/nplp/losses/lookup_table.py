"""The lookup table V of cluster centroids: how it starts and how training moves it.

Shapes: N images, c clusters, D values of f_r, B images in a batch.
"""

import math

import torch
import torch.nn.functional as F

__all__ = ["cluster_centroids", "least_similar_of_each", "update_lookup_table_"]

OUTLIER = -1
ROWS_AT_ONCE = 8192


@torch.no_grad()
def cluster_centroids(features: torch.Tensor, labels: torch.Tensor, num_clusters: int) -> torch.Tensor:
    """Return the mean feature of each cluster, outliers left out: the V that an iteration starts with.

    The sums are taken on the CPU in float64 and in the order of the rows, so that every process gets the
    same bits; 8,192 rows are converted at a time, so memory is that and c x D x 8 bytes.

    Args:
        features: f_r [N, D], floating point, any device.
        labels: [N] integers, 0..c-1, or -1 for outliers.
        num_clusters: c, at least 1.

    Returns:
        [c, D], in the dtype (float32 at least) and on the device of ``features``.

    Raises:
        ValueError: for shapes that do not fit, a label out of range or a cluster without a member.
    """
    if features.dim() != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"features must be [N, D] and labels [N], got {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if num_clusters < 1:
        raise ValueError(f"num_clusters must be at least 1, got {num_clusters}")
    labels = labels.cpu().long()
    outside = labels[(labels < OUTLIER) | (labels >= num_clusters)]
    if len(outside):
        raise ValueError(f"labels must be in [-1, {num_clusters}), got {int(outside[0])}")
    counts = torch.bincount(labels[labels != OUTLIER], minlength=num_clusters)
    empty = torch.nonzero(counts == 0).flatten().tolist()
    if empty:
        raise ValueError(f"every cluster needs a member, cluster {empty[0]} of {num_clusters} has none")

    sums = torch.zeros(num_clusters, features.shape[1], dtype=torch.float64)
    for first in range(0, len(labels), ROWS_AT_ONCE):
        chunk = slice(first, first + ROWS_AT_ONCE)
        member = labels[chunk] != OUTLIER
        rows = features[chunk].detach().cpu().double()
        sums.index_add_(0, labels[chunk][member], rows[member])
    means = sums / counts.unsqueeze(1)
    return means.to(features.device, torch.promote_types(features.dtype, torch.float32))


@torch.no_grad()
def update_lookup_table_(
    table: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, normalize: bool, kept: float = 0.5
) -> torch.Tensor:
    """Apply V_i <- kept V_i + (1 - kept) f to ``table`` in place, once for each sample in batch order.

    With the default it is eq. 11, V_i <- (V_i + f_r) / 2: of K samples of an identity the last weighs 1/2,
    the one before 1/4, and so on. Samples of
    different identities do not interact: the k-th samples of all identities are applied together, which
    gives the bits of the one-by-one loop. A sample that would leave a non-finite row (an overflow under
    mixed precision) is skipped.

    Args:
        table: V [c, D], changed in place.
        features: f_r [B, D], already L2-normalised if ``normalize``.
        labels: [B] integers in [0, c).
        normalize: L2-normalise V_i again after each sample.
        kept: share of the old V_i that each sample leaves.

    Returns:
        ``table``.
    """
    for visit in _visits(labels.tolist()):
        positions = torch.tensor(visit, device=table.device)
        rows = labels[positions].long()
        current = table[rows]
        moved = kept * current + (1 - kept) * features[positions]
        if normalize:
            moved = F.normalize(moved, dim=1)
        finite = moved.isfinite().all(dim=1, keepdim=True)
        table[rows] = torch.where(finite, moved, current).to(table.dtype)
    return table


@torch.no_grad()
def least_similar_of_each(table: torch.Tensor, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the positions of the samples that are least similar to their row, one of each label.

    The similarity is V_i^T f; of equal ones the first sample counts, and one that is not finite never.

    Args:
        table: V [c, D].
        features: f [B, D].
        labels: [B] integers in [0, c).

    Returns:
        [number of labels in the batch] int64, ascending, on the CPU.
    """
    similarities = (table[labels.long()] * features).sum(dim=1).tolist()
    least: dict[int, int] = {}
    for position, (label, similarity) in enumerate(zip(labels.tolist(), similarities, strict=True)):
        if math.isfinite(similarity) and (label not in least or similarity < similarities[least[label]]):
            least[label] = position
    return torch.tensor(sorted(least.values()), dtype=torch.int64)


def _visits(labels: list[int]) -> list[list[int]]:
    """Return for k = 0, 1, ... the positions that are the k-th of their label."""
    seen: dict[int, int] = {}
    visits: list[list[int]] = []
    for position, label in enumerate(labels):
        visit = seen.get(label, 0)
        seen[label] = visit + 1
        if visit == len(visits):
            visits.append([])
        visits[visit].append(position)
    return visits
