"""What of a trained model is needed to use it: the configuration, the weights and the images' way in.

Shapes: B images, H x W pixels, D values of f_e.
"""

import torch
from fastreid.config import CfgNode
from torch import nn

from nplp.config.bundles import KEPT
from nplp.engine.pipeline import CLASSIFIER, NECK
from nplp.modeling.heads import EMBEDDING, NECK_FEATURE
from nplp.weights.zoo import ZOO_PREFIX

__all__ = ["EmbeddingModel", "inference_config", "inference_weights"]


def inference_config(cfg: CfgNode, name: str) -> CfgNode:
    """Return the part of a configuration that building, loading and evaluating the model needs.

    There is no classifier in it, no loss, no device and no folder of the machine that trained; weights are
    ``zoo://NAME``.

    Args:
        cfg: of the training.
        name: of the bundle.
    """
    kept = CfgNode()
    for section, keys in KEPT.items():
        kept[section] = CfgNode({key: cfg[section][key] for key in keys or cfg[section]}).clone()
    kept.MODEL.BACKBONE.PRETRAIN = False
    kept.MODEL.BACKBONE.PRETRAIN_PATH = ""
    # A head of the toolbox's own cannot be built without a class.
    kept.MODEL.HEADS.NUM_CLASSES = 0 if cfg.MODEL.META_ARCHITECTURE == "NPLP" else 1
    kept.MODEL.LOSSES = CfgNode({"NAME": ()})
    kept.MODEL.WEIGHTS = ZOO_PREFIX + name
    kept.DATASETS.SYNTHETIC.ROOT = ""
    return kept


def inference_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of backbone and head up to its feature, on the CPU and contiguous.

    Left out are the classifier, the neck where the feature is f_e, and whatever the losses hold.
    """
    left_out = CLASSIFIER if getattr(model.heads, "output", EMBEDDING) == NECK_FEATURE else CLASSIFIER + NECK
    return {
        key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
        if key.startswith(("backbone.", "heads.")) and not key.startswith(left_out)
    }


class EmbeddingModel(nn.Module):
    """The model behind the images as files hold them: what is exported as a program.

    Args:
        model: gives f_e of images [B, 3, H, W] in 0..255; it is put into evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return f_e [B, D] float32 of RGB ``images`` [B, H, W, 3] uint8."""
        # Floats first: some engines take bytes as an input but compute nothing with them.
        embedding: torch.Tensor = self.model(images.float().permute(0, 3, 1, 2))
        return embedding.float()
