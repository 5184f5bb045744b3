"""Bridges from fastreid 1.4.0 to a modern stack.

The toolbox stays unmodified on the disk. :func:`apply` imports it and replaces, in memory, what does not
work with current Python, torch and numpy or without CUDA. Each bridge is a function of its own, whose
docstring says which part of the toolbox needs it. The bridges are written for one version of the toolbox,
and :func:`toolbox_fault` is the only check of it: another version is not bridged and not used.

Not bridged on purpose: ``torch.load`` keeps its default ``weights_only=True``, so that a checkpoint from
elsewhere cannot run code.
"""

import functools
import importlib
import importlib.metadata
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
    torchvision_models_later,
)

__all__ = ["apply", "require_fastreid", "toolbox_fault"]

VERSION = "1.4.0"
INSTALL_COMMAND = f"pip install --no-deps fastreid=={VERSION}"


def toolbox_fault() -> str:
    """Return why the toolbox cannot be used, in a few words; empty where it can.

    It can where it is the version that the bridges are written for. A folder of its sources, which is not
    installed and has no version, is taken for that version.
    """
    if importlib.util.find_spec("fastreid") is None:
        return "it is not installed"
    try:
        # Not fastreid.__version__, which is "1.3" in this version.
        version = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        return ""
    return "" if version == VERSION else f"version {version} is installed"


@functools.cache
def apply() -> None:
    """Import the toolbox and bridge what is missing; do nothing where it cannot be used.

    A second call does nothing. ``fastreid`` may have been imported before, be it in vain: on a modern stack
    its engine cannot be imported without the bridges.

    Raises:
        ImportError: if fastreid is installed but something that it needs is not.
    """
    if toolbox_fault():
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
        torchvision_models_later(),
    ):
        importlib.import_module("fastreid.engine")
    # These modules need the toolbox, which can be imported only now.
    from nplp.host.amp import bridge_amp
    from nplp.host.distances import bridge_distances
    from nplp.host.loaders import bridge_loaders
    from nplp.host.noise import bridge_image_conversion, bridge_serialization
    from nplp.host.optimizer import bridge_zero_grad, optimizers_without_compiler
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
    optimizers_without_compiler()


def require_fastreid() -> None:
    """Check that the toolbox can be used.

    Raises:
        ImportError: if it cannot, with the reason and the command that installs the right version.
    """
    if fault := toolbox_fault():
        raise ImportError(
            f"this part of nplp needs fastreid {VERSION}, but {fault}; install it with: {INSTALL_COMMAND}"
        )
