"""Which batch norms a model has: torch's own, or those that divide a batch into groups."""

from fastreid.config import CfgNode
from torch import nn

from nplp.errors import UserError
from nplp.layers import NormGroups, group_batch_norms

__all__ = ["check_chunks", "divide_batches"]


def divide_batches(model: nn.Module, chunk: int) -> NormGroups:
    """Let the batch norms of ``model`` normalise training batches over chunks of ``chunk`` images.

    With 0 the model stays as it is. Names and tensors of its state are the same with and without chunks.

    Raises:
        UserError: if ``chunk`` is negative or 1, or the model's batch norms cannot be divided.
    """
    try:
        groups = NormGroups(chunk)
    except ValueError as error:
        raise UserError(f"MODEL.NORM_CHUNK: {error}") from error
    if not chunk:
        return groups
    try:
        replaced = group_batch_norms(model, groups)
    except ValueError as error:
        raise UserError(
            f"MODEL.NORM_CHUNK {chunk}: {error}: set MODEL.BACKBONE.NORM and MODEL.HEADS.NORM to BN, or "
            "MODEL.NORM_CHUNK to 0"
        ) from error
    if not replaced:
        raise UserError(f"MODEL.NORM_CHUNK must be 0 for a model without batch norms, got {chunk}")
    return groups


def check_chunks(cfg: CfgNode, processes: int) -> None:
    """Check that each process's share of a training batch divides into chunks.

    Raises:
        UserError: naming chunk and share.
    """
    chunk, share = cfg.MODEL.NORM_CHUNK, cfg.SOLVER.IMS_PER_BATCH // processes
    if chunk and share % chunk:
        raise UserError(
            f"MODEL.NORM_CHUNK must divide the {share} images that each of {processes} process(es) takes of "
            f"a batch (SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}), got {chunk}"
        )
