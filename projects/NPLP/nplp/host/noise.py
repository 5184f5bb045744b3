"""Two calls of the toolbox that warn at every image and at every gathering."""

import importlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["bridge_image_conversion", "bridge_serialization"]

DTYPES = {"I": np.int32, "I;16": np.int16, "F": np.float32}


def bridge_image_conversion() -> None:
    """Replace ``to_tensor`` (``data/transforms/functional.py``).

    The toolbox's goes through ``torch.ByteStorage``, which is deprecated and warns at every image; and
    its ``np.array(..., copy=False)`` fails on numpy 2 for images in modes other than 8 bits a channel.
    Arrays are still converted by the toolbox's function, and the result is the same in every mode.
    """
    functional: Any = importlib.import_module("fastreid.data.transforms.functional")
    transforms: Any = importlib.import_module("fastreid.data.transforms.transforms")
    functional.to_tensor = transforms.to_tensor = _image_conversion(functional.to_tensor)


def _image_conversion(convert_array: Callable[[np.ndarray], torch.Tensor]) -> Callable[[Any], torch.Tensor]:
    def to_tensor(pic: Any) -> torch.Tensor:
        """Return ``pic`` as a tensor ``[C, H, W]``; 8-bit images become float32 from 0 to 255."""
        if isinstance(pic, np.ndarray):
            return convert_array(pic)
        # A copy: torch does not take read-only memory.
        pixels = np.array(pic, dtype=DTYPES.get(pic.mode, np.uint8))
        if pic.mode == "1":
            pixels = pixels * np.uint8(255)
        image = torch.from_numpy(pixels.reshape(pic.size[1], pic.size[0], -1))
        image = image.permute(2, 0, 1).contiguous()
        return image.float() if image.dtype == torch.uint8 else image

    return to_tensor


def bridge_serialization() -> None:
    """Replace ``_serialize_to_tensor`` (``utils/comm.py``).

    The toolbox's goes through ``torch.ByteStorage``, which is deprecated: every process warns when it
    first gathers.
    """
    comm: Any = importlib.import_module("fastreid.utils.comm")
    comm._serialize_to_tensor = _serialize_to_tensor


def _serialize_to_tensor(data: Any, group: Any) -> torch.Tensor:
    """Return ``data``, pickled, as a uint8 tensor ``[bytes]`` where the backend of ``group`` needs it."""
    device = "cpu" if torch.distributed.get_backend(group) == "gloo" else "cuda"
    return torch.frombuffer(bytearray(pickle.dumps(data)), dtype=torch.uint8).to(device)
