"""Bridges from fastreid 1.4.0 to a modern stack.

The toolbox stays unmodified on the disk. :func:`apply` imports it and replaces, in memory, what does not
work with current Python, torch and numpy or without CUDA. Each bridge is a function of its own, whose
docstring says which part of the toolbox needs it; it looks for the defect first and does nothing where
there is none, so that applying them twice, or to a toolbox that was repaired, changes nothing.

Not bridged on purpose: ``torch.load`` keeps its default ``weights_only=True``, so that a checkpoint from
elsewhere cannot run code.
"""

import importlib
import importlib.util

from nplp.host.imports import (
    bridge_numpy_bool,
    bridge_torchvision,
    faiss_later,
    forget_half_imported,
    old_collections_names,
    old_torch_six,
    scikit_learn_later,
    tensorboard_later,
)

__all__ = ["INSTALL_COMMAND", "apply", "require_fastreid"]

INSTALL_COMMAND = "pip install --no-deps fastreid==1.4.0"


def apply() -> None:
    """Import the toolbox and bridge what is missing; do nothing where it is not installed.

    It may be called again, and after ``fastreid`` was imported, be it in vain: on a modern stack its engine
    cannot be imported before.

    Raises:
        ImportError: if fastreid is installed but something that it needs is not.
    """
    if importlib.util.find_spec("fastreid") is None:
        return
    forget_half_imported()
    bridge_numpy_bool()
    bridge_torchvision()
    with (
        old_collections_names(),
        old_torch_six(),
        scikit_learn_later(),
        faiss_later(),
        tensorboard_later(),
    ):
        importlib.import_module("fastreid.engine")
    # These modules need the toolbox, which can be imported only now.
    from nplp.host.amp import bridge_amp
    from nplp.host.distances import bridge_distances
    from nplp.host.loaders import bridge_loaders
    from nplp.host.noise import bridge_image_conversion, bridge_serialization
    from nplp.host.optimizer import bridge_zero_grad
    from nplp.host.processes import bridge_launch
    from nplp.host.weights import bridge_pretrain_path, bridge_weights

    bridge_loaders()
    bridge_launch()
    bridge_amp()
    bridge_distances()
    bridge_image_conversion()
    bridge_serialization()
    bridge_weights()
    bridge_pretrain_path()
    bridge_zero_grad()


def require_fastreid() -> None:
    """Check that the toolbox is installed.

    Raises:
        ImportError: if it is not, with the command that installs it.
    """
    if importlib.util.find_spec("fastreid") is None:
        raise ImportError(f"this part of nplp needs fastreid 1.4.0; install it with: {INSTALL_COMMAND}")
