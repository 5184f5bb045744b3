"""Features of a list of images, in the order of the list."""

import logging
from contextlib import nullcontext

import torch
from fastreid.config import CfgNode
from fastreid.evaluation import inference_context
from fastreid.utils import comm
from torch import nn
from tqdm import tqdm

from nplp.data.datasets import Item
from nplp.data.loaders import build_test_loader
from nplp.distributed.collectives import largest
from nplp.distributed.shares import rank_shares
from nplp.memory import ShrinkingBlocks, is_out_of_memory

__all__ = ["extract_features"]

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")


@torch.no_grad()
def extract_features(
    cfg: CfgNode,
    model: nn.Module,
    items: list[Item],
    description: str,
    *,
    on_device: bool = False,
    everywhere: bool = False,
) -> torch.Tensor:
    """Return the feature of each item, with the test-time transformation and the model in evaluation mode.

    It is the head's own feature, without a correction by the statistics of cameras: pseudo-labels are made of
    these, and the statistics themselves.

    Under ``torch.distributed`` the ranks share the work: each takes a range of the items, all of about one
    length whatever ``N`` is. Only the main process gets the result, unless all are to have it.

    Args:
        cfg: the configuration.
        model: gives the features of a batch in evaluation mode; its mode is restored afterwards.
        items: ``N`` items of a training set; identities are not looked at.
        description: text of the progress bar, which shows on a terminal only.
        on_device: keep the features on MODEL.DEVICE, in N x D x 4 bytes of its memory; where these do not
            fit, or several processes share the work, they are collected on the CPU.
        everywhere: give the result to all ranks, which takes N x D x 4 bytes of memory on each of them, next
            to the rank's own share.

    Returns:
        ``[N, D]`` float32 on the main process and, with ``everywhere``, on the others, else ``[0, D]`` there;
        on the CPU unless ``on_device``.
    """
    loader = build_test_loader(cfg, items)
    alone = comm.get_world_size() == 1
    device = torch.device(cfg.MODEL.DEVICE) if on_device and alone else CPU
    bar = tqdm(
        loader, desc=description, unit="batch", leave=False, disable=None if comm.is_main_process() else True
    )
    rows = _Rows(len(items), device)
    raw_features = getattr(model, "raw_features", nullcontext)
    with inference_context(model), raw_features():
        blocks = ShrinkingBlocks(description, cfg.TEST.IMS_PER_BATCH)
        for batch in bar:
            images, cameras = batch["images"], [str(camera) for camera in batch["camids"]]

            def embed(
                start: int, stop: int, images: torch.Tensor = images, cameras: list[str] = cameras
            ) -> torch.Tensor:
                part = {"images": images[start:stop].clone(), "cameras": cameras[start:stop]}
                return model(part).float()

            blocks.run(len(images), embed, rows.append)
    features = rows.features()
    if alone:
        return features
    if everywhere:
        return _from_everywhere(features, len(items))
    shares = comm.gather(features, dst=0)
    if not comm.is_main_process():
        return features[:0]
    return torch.cat([share for share in shares if len(share)])


def _from_everywhere(share: torch.Tensor, count: int) -> torch.Tensor:
    """Return the ranks' rows one after the other, [count, D], on every rank; a share may have no rows."""
    width = largest(share.shape[1])
    rows = rank_shares().gathered(share.reshape(len(share), width).numpy())
    assert len(rows) == count, f"{len(rows)} features of {count} images"
    return torch.from_numpy(rows)


class _Rows:
    """Features [N, D] that arrive block by block: in one tensor on a device, or in blocks on the CPU."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._count = count
        self._device = device
        self._filled = 0
        self._room: torch.Tensor | None = None
        self._blocks: list[torch.Tensor] = []

    def append(self, block: torch.Tensor) -> None:
        """Take the next rows."""
        if not self._filled and self._device.type != "cpu":
            self._room = self._allocate(block.shape[1])
        if self._room is None:
            self._blocks.append(block.cpu())
        else:
            self._room[self._filled : self._filled + len(block)] = block
        self._filled += len(block)

    def features(self) -> torch.Tensor:
        """Return all rows; [0, 0] where there were none, as a process may have none of few images."""
        if self._room is not None:
            return self._room
        return torch.cat(self._blocks) if self._blocks else torch.empty(0, 0)

    def _allocate(self, width: int) -> torch.Tensor | None:
        """Return room for all rows on the device; None where its memory does not suffice."""
        try:
            return torch.empty(self._count, width, device=self._device)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("Features do not fit into the memory of %s: they stay on the CPU", self._device)
            return None
