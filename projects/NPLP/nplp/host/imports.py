"""Bridges that let the toolbox be imported at all."""

import collections
import collections.abc
import contextlib
import importlib
import importlib.util
import logging
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

__all__ = [
    "bridge_numpy_bool",
    "bridge_torchvision",
    "faiss_later",
    "forget_half_imported",
    "old_collections_names",
    "old_torch_six",
    "scikit_learn_later",
    "tensorboard_later",
    "torchvision_models_later",
]

logger = logging.getLogger(__name__)


def forget_half_imported() -> None:
    """Forget what is left of an import of the toolbox that failed.

    Where a program imports ``fastreid.engine`` before this package, the import fails, and python takes the
    packages out again but not the modules in them that were whole by then. The next import would find these
    without setting them on their packages, so that ``fastreid.evaluation.reid_evaluation`` could be imported
    and yet be no attribute of ``fastreid.evaluation``. Modules whose packages are there are left alone.
    """
    left = [
        name
        for name in sys.modules
        if name.startswith("fastreid.") and any(parent not in sys.modules for parent in _parents(name))
    ]
    for name in left:
        del sys.modules[name]


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def bridge_torchvision() -> bool:
    """Import torchvision although its compiled operators do not load with this torch build.

    A CUDA build of torchvision beside a CPU-only torch (or any pair that was not released together)
    describes operators that were never registered: ``import torchvision`` then ends in "operator
    torchvision::nms does not exist". The toolbox needs torchvision for its image transforms
    (``data/transforms/build.py``), which are plain Python. Descriptions of missing
    ``torchvision::*`` operators are skipped while torchvision is imported; everything else passes
    through, and ``torch.library.register_fake`` is put back afterwards.

    Its models, data sets and detection operators are imported when something of them is first asked for:
    the operators alone bring torch's compiler along, a second of every start.

    Returns:
        Whether an operator was missing and its description skipped.
    """
    if "torchvision" in sys.modules:
        return False
    original = torch.library.register_fake
    skipped: list[str] = []

    def register_present(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::") and not _operator_exists(op):
            skipped.append(op)
            return _leave_unchanged
        return original(op, *args, **kwargs)

    torch.library.register_fake = register_present
    try:
        with contextlib.ExitStack() as stack:
            for part in ("datasets", "models", "ops"):
                stack.enter_context(_stand_in(True, _Later(f"torchvision.{part}")))
            importlib.import_module("torchvision")
    finally:
        torch.library.register_fake = original
    if skipped:
        logger.info(
            "torchvision's compiled operators do not load with torch %s: its image transforms work, its "
            "detection operators do not",
            torch.__version__,
        )
    return bool(skipped)


def _operator_exists(qualified_name: str) -> bool:
    namespace, name = qualified_name.split("::")
    return hasattr(getattr(torch.ops, namespace), name.split(".")[0])


def _leave_unchanged(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@contextlib.contextmanager
def old_collections_names() -> Iterator[bool]:
    """Offer ``collections.Mapping`` while the toolbox is imported; yield whether it was missing.

    ``evaluation/testing.py`` and ``data/build.py`` say ``from collections import Mapping``, which
    Python has only had in ``collections.abc`` since 3.10. The name is taken away again afterwards, so
    that other libraries see Python as it is.
    """
    missing = not hasattr(collections, "Mapping")
    if missing:
        collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]
    try:
        yield missing
    finally:
        if missing:
            del collections.Mapping  # type: ignore[attr-defined]


def _module(name: str, **content: Any) -> types.ModuleType:
    """Return a module of ``content`` alone."""
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


@contextlib.contextmanager
def _stand_in(missing: bool, module: types.ModuleType) -> Iterator[bool]:
    """Offer ``module`` by its name for a while, if that is missing; yield whether it is."""
    name = module.__name__
    before = {name: sys.modules[name]} if name in sys.modules else {}
    if missing:
        sys.modules[name] = module
    try:
        yield missing
    finally:
        if missing:
            del sys.modules[name]
            sys.modules.update(before)


def old_torch_six() -> contextlib.AbstractContextManager[bool]:
    """Offer ``torch._six.string_classes`` while the toolbox is imported; yield whether it was missing.

    ``data/build.py`` says ``from torch._six import string_classes``; torch has had no such module since
    2.0. The stand-in is taken away again afterwards.
    """
    missing = importlib.util.find_spec("torch._six") is None
    return _stand_in(missing, _module("torch._six", string_classes=(str, bytes)))


class _Later(types.ModuleType):
    """A module that is imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        # Python looks for these in every module that it knows, as for a traceback.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def scikit_learn_later() -> contextlib.AbstractContextManager[bool]:
    """Offer ``sklearn.metrics`` unloaded while the toolbox is imported; yield whether it was not loaded yet.

    ``evaluation/reid_evaluation.py`` and ``utils/visualizer.py`` import it for ROC curves alone, which are
    off by default; with SciPy's statistics it takes a quarter of the time that a tool needs to start. The
    toolbox keeps a stand-in that loads it when a function is asked for; others find scikit-learn as it is.
    """
    return _stand_in("sklearn" not in sys.modules, _module("sklearn", metrics=_Later("sklearn.metrics")))


def faiss_later() -> contextlib.AbstractContextManager[bool]:
    """Offer ``faiss`` unloaded while the toolbox is imported; yield whether it was not loaded yet.

    ``utils/compute_dist.py`` and ``utils/faiss_utils.py`` import it for re-ranking alone, which is off by
    default and says what is missing where it is not installed. ``METRIC_L2`` is a default argument there,
    read at import.
    """
    stand_in = _Later("faiss")
    stand_in.METRIC_L2 = 1  # type: ignore[attr-defined]
    return _stand_in(sys.modules.get("faiss") is None, stand_in)


def tensorboard_later() -> contextlib.AbstractContextManager[bool]:
    """Offer torch's ``SummaryWriter`` while the toolbox is imported; yield whether it was not loaded yet.

    ``solver/optim/lamb.py`` imports it for the type of an argument.
    """
    missing = "torch.utils.tensorboard" not in sys.modules
    return _stand_in(missing, _module("torch.utils.tensorboard", SummaryWriter=object))


def torchvision_models_later() -> contextlib.AbstractContextManager[bool]:
    """Offer ``torchvision.models.utils`` while the toolbox is imported.

    ``modeling/backbones/mobilenetv3.py`` asks it for a function that torch itself has, and takes torch's
    where torchvision has no such module any more, which it knows once all of its models are imported.
    """
    function = torch.hub.load_state_dict_from_url
    return _stand_in(True, _module("torchvision.models.utils", load_state_dict_from_url=function))


def bridge_numpy_bool() -> bool:
    """Give numpy 1.24 to 1.26 the name ``np.bool``; return whether it was missing.

    ``evaluation/rank.py`` asks for it on its CUHK03 path, at run time, so the name has to stay. It
    stands for numpy's own scalar type, as in numpy 2, which has the name and is left alone: there a
    plain ``bool`` in its place breaks ``numpy.ma`` and SciPy.
    """
    # Not hasattr: numpy 1.26 answers that with a warning.
    if "bool" in vars(np):
        return False
    vars(np)["bool"] = np.bool_
    return True
