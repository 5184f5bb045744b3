"""Features of a list of images, in the order of the list."""

import torch
from fastreid.config import CfgNode
from fastreid.evaluation import inference_context
from fastreid.utils import comm
from torch import nn
from tqdm import tqdm

from nplp.data.datasets import Item
from nplp.data.loaders import build_test_loader
from nplp.memory import ShrinkingBlocks

__all__ = ["extract_features"]


@torch.no_grad()
def extract_features(cfg: CfgNode, model: nn.Module, items: list[Item], description: str) -> torch.Tensor:
    """Return f_e of each item, with the test-time transformation and the model in evaluation mode.

    Under ``torch.distributed`` the ranks share the work, and only the main process gets the result.

    Args:
        cfg: the configuration.
        model: gives f_e of a batch in evaluation mode; its mode is restored afterwards.
        items: ``N`` items; identities are not looked at.
        description: text of the progress bar, which shows on a terminal only.

    Returns:
        ``[N, D]`` float32 on the CPU on the main process, ``[0, D]`` on the others.
    """
    loader = build_test_loader(cfg, items)
    bar = tqdm(
        loader, desc=description, unit="batch", leave=False, disable=None if comm.is_main_process() else True
    )
    found: list[torch.Tensor] = []
    with inference_context(model):
        blocks = ShrinkingBlocks(description, cfg.TEST.IMS_PER_BATCH)
        for batch in bar:
            images = batch["images"]

            def embed(start: int, stop: int, images: torch.Tensor = images) -> torch.Tensor:
                return model({"images": images[start:stop].clone()}).float().cpu()

            blocks.run(len(images), embed, found.append)
    # Of few images a process may have none.
    features = torch.cat(found) if found else torch.empty(0, 0)
    if comm.get_world_size() == 1:
        return features
    shares = comm.gather(features, dst=0)
    if not comm.is_main_process():
        return features[:0]
    return torch.cat([share for share in shares if len(share)])
