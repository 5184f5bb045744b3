"""What of a trained model is needed to use it: the configuration, the weights and the images' way in.

Shapes: B images, H x W pixels, K cameras, D values of f_e.
"""

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import nn

from nplp.config.bundles import KEPT
from nplp.config.choices import EMBEDDING
from nplp.engine.pipeline import CLASSIFIER, NECK
from nplp.modeling.camera_statistics import CAMERA_STATE
from nplp.weights.zoo import ZOO_PREFIX

__all__ = ["UNKNOWN_CAMERA", "EmbeddingModel", "inference_config", "inference_weights"]

UNKNOWN_CAMERA = -1
"""In the place of a row, a camera that the model does not know."""


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
    """Return the weights of backbone and head up to the model's feature, on the CPU and contiguous.

    What corrects the feature by its camera is among them.

    Left out are the classifier, the neck where the feature is f_e, and whatever the losses hold.
    """
    left_out = CLASSIFIER if getattr(model.heads, "output", EMBEDDING) != EMBEDDING else CLASSIFIER + NECK
    return {
        key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
        if key.startswith(("backbone.", "heads.", *CAMERA_STATE)) and not key.startswith(left_out)
    }


class EmbeddingModel(nn.Module):
    """The model behind the images as files hold them: what is exported as a program.

    Args:
        model: gives f_e of images [B, 3, H, W] in 0..255; it is put into evaluation mode.

    Attributes:
        cameras: the K cameras by whose statistics f_e is corrected, in the order of their rows; ``None``
            where it is not, and then the program has no input for cameras.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.cameras: tuple[str, ...] | None = getattr(model, "known_cameras", None)
        self.eval()

    def inputs(self, images: torch.Tensor, rows: np.ndarray | None = None) -> tuple[torch.Tensor, ...]:
        """Return what :meth:`forward` and a program take.

        Args:
            images: [B, H, W, 3] uint8.
            rows: [B] int64, of cameras, :data:`UNKNOWN_CAMERA` for one without a row; ``None``: all are.
        """
        if self.cameras is None:
            return (images,)
        if rows is None:
            rows = np.full(len(images), UNKNOWN_CAMERA, np.int64)
        return images, torch.from_numpy(rows)

    def forward(self, images: torch.Tensor, camera: torch.Tensor | None = None) -> torch.Tensor:
        """Return f_e [B, D] float32, corrected where the model has statistics of cameras.

        Args:
            images: RGB, [B, H, W, 3] uint8.
            camera: rows [B] int64, where what is no row stands for an unknown camera; ``None``: all unknown.
        """
        # Floats first: some engines take bytes as an input but compute nothing with them.
        floats = images.float().permute(0, 3, 1, 2)
        if self.cameras is None:
            embedding: torch.Tensor = self.model(floats)
        else:
            embedding = self.model({"images": floats, "cameras": camera})
        return embedding.float()
