"""A tiny model, and the forms in which people keep the weights of such a model.

A form is a function that writes a model's ``state_dict`` to a path. Each is tried as the weights of a whole
model and as the initial weights of its backbone.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]
Form = Callable[[Weights, Path], None]

NARROW = {"MODEL.BACKBONE.NAME": "build_narrow_resnet_backbone", "MODEL.BACKBONE.FEAT_DIM": 16}
IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0)) * 255


def make_cfg(**options: Any) -> Any:
    """Return the configuration of a narrow NPLP source model of 7 identities, changed by ``KEY=value``s."""
    from fastreid.config import get_cfg

    from nplp.config import add_nplp_config

    cfg = get_cfg()
    add_nplp_config(cfg)
    defaults = {
        **NARROW,
        "MODEL.DEVICE": "cpu",
        "MODEL.META_ARCHITECTURE": "NPLP",
        "MODEL.BACKBONE.PRETRAIN": False,
        "MODEL.HEADS.NAME": "PAPHead",
        "MODEL.HEADS.EMBEDDING_DIM": 16,
        "MODEL.HEADS.NUM_CLASSES": 7,
        "MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss"),
        "INPUT.SIZE_TRAIN": [64, 32],
    }
    merged = {**defaults, **{key.replace("__", "."): value for key, value in options.items()}}
    cfg.merge_from_list([item for pair in merged.items() for item in pair])
    return cfg


def make_model(seed: int, **options: Any) -> Any:
    """Return a model whose every weight and statistic was drawn from ``seed``, ready for evaluation."""
    from fastreid.modeling.meta_arch import build_model

    torch.manual_seed(seed)
    model = build_model(make_cfg(**options)).eval()
    randomise(model)
    return model


def embed(model: torch.nn.Module) -> torch.Tensor:
    """Return the model's output for :data:`IMAGES`, which the toolbox's models would normalise in place."""
    with torch.no_grad():
        output: torch.Tensor = model(IMAGES.clone())
    return output


def randomise(model: torch.nn.Module) -> None:
    """Draw the weights and statistics of all layers, so that each of them can be told from initial ones."""
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not key.startswith("pixel_"):
            value.copy_(torch.rand(value.shape) * 0.2 + (0.9 if "running_var" in key else 0.0))
        elif key.endswith("num_batches_tracked"):
            value.fill_(41)


def under(*entries: str, **beside: Any) -> Form:
    """Return the form in which the weights are under nested entries, with other things beside them."""

    def write(weights: Weights, path: Path) -> None:
        content: Any = weights
        for entry in reversed(entries):
            content = {entry: content}
        torch.save({**content, **beside}, path)

    return write


def named(rename: Callable[[str], str], **more: torch.Tensor) -> Form:
    """Return the form with other names, and with ``more`` tensors, whose '__' are dots."""

    def write(weights: Weights, path: Path) -> None:
        renamed = OrderedDict((rename(key), value) for key, value in weights.items())
        renamed.update((key.replace("__", "."), value) for key, value in more.items())
        torch.save(renamed, path)

    return write


def without(*parts: str, **more: torch.Tensor) -> Form:
    """Return the form without the tensors of which a name contains a part, and with ``more``."""

    def write(weights: Weights, path: Path) -> None:
        kept = {key: value for key, value in weights.items() if not any(part in key for part in parts)}
        named(str, **more)(kept, path)

    return write


def as_type(dtype: torch.dtype) -> Form:
    """Return the form in which floating-point numbers have another type."""

    def write(weights: Weights, path: Path) -> None:
        torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}, path)

    return write


def save_old(weights: Weights, path: Path) -> None:
    """Write the format before torch 1.6, which is no archive."""
    torch.save({"state_dict": weights}, path, _use_new_zipfile_serialization=False)


def save_score_of_numpy_1(weights: Weights, path: Path) -> None:
    """Write a score as NumPy 1 does: its functions lie in ``numpy.core``."""
    torch.save({"state_dict": weights, "rank1": np.float64(0.75)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def save_parts(weights: Weights, path: Path) -> None:
    """Write each part of the model under an entry of its own."""
    parts: dict[str, Weights] = {}
    for key, value in weights.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    torch.save({**parts, "epoch": 3}, path)


def save_average(weights: Weights, path: Path) -> None:
    """Write what ``torch.optim.swa_utils.AveragedModel`` keeps."""
    named("module.{}".format, n_averaged=torch.tensor(5))(weights, path)


def save_student_and_teacher(weights: Weights, path: Path) -> None:
    """Write a mean teacher's two models; that of the teacher counts."""
    student = {key: torch.zeros_like(value) for key, value in weights.items()}
    torch.save({"student": student, "teacher": {f"module.{k}": v for k, v in weights.items()}}, path)


def _optimizer() -> dict[str, Any]:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)

FORMS: dict[str, tuple[Form, str]] = {
    "as it is": (under(), "weights.pth"),
    "under model": (under("model"), "weights.pth"),
    "under state_dict": (under("state_dict", epoch=60, best_acc=torch.tensor(0.9)), "weights.pth.tar"),
    "under net": (under("net"), "weights.pth"),
    "under params": (under("params"), "weights.pth"),
    "under model_state": (under("model_state"), "weights.pyth"),
    "under two entries": (under("model", "state_dict"), "weights.pth"),
    "under an unknown entry": (under("reid_net", epoch=3), "weights.pth"),
    "of DataParallel": (named("module.{}".format), "weights.pth"),
    "of a compiled model": (named("_orig_mod.module.{}".format), "weights.pth"),
    "of DataParallel around the backbone": (
        named(lambda key: key.replace("backbone.", "backbone.module.")),
        "weights.pth",
    ),
    "of Lightning": (
        lambda weights, path: under(
            "state_dict",
            **{"pytorch-lightning_version": "2.0", "optimizer_states": [_optimizer()], "loops": {"n": 1}},
        )({f"model.{key}": value for key, value in weights.items()}, path),
        "epoch=3.ckpt",
    ),
    "with the training's state": (
        under("model", optimizer=_optimizer(), scheduler={"last": 3}, epoch=3, iter=90),
        "weights.pth",
    ),
    "without counters": (without("num_batches_tracked"), "weights.pth"),
    "without the classifier": (without("classifier"), "weights.pth"),
    "with 751 identities": (without("classifier", heads__classifier__weight=torch.ones(751, 16)), "w.pth"),
    "with fastreid's classifier": (without("classifier", heads__weight=torch.ones(9, 16)), "w.pth"),
    "with an older classifier": (without("classifier", heads__cls_layer__weight=torch.ones(9, 16)), "w.pth"),
    "with a classifier of another project": (
        without("classifier", classifier__weight=torch.ones(9, 16), classifier__bias=torch.ones(9)),
        "w.pth",
    ),
    "with ImageNet's classifier": (
        without("classifier", fc__weight=torch.ones(9, 16), fc__bias=torch.ones(9)),
        "w.pth",
    ),
    "with normalisation": (named(str, pixel_mean=MEAN, pixel_std=STD), "weights.pth"),
    "in parts": (save_parts, "weights.pth"),
    "in the old format": (save_old, "weights.pth"),
    "with a score of NumPy 2": (under("state_dict", rank1=np.float32(0.75)), "weights.pth"),
    "with a score of NumPy 1": (save_score_of_numpy_1, "weights.pth"),
    "of an average": (save_average, "weights.pth"),
    "of a mean teacher": (save_student_and_teacher, "weights.pth"),
    "as safetensors": (save_file, "weights.safetensors"),
    "as safetensors of another name": (save_file, "pytorch_model.bin"),
    "in half precision": (as_type(torch.float16), "weights.pth"),
    "in bfloat16": (as_type(torch.bfloat16), "weights.pth"),
    "in double precision": (as_type(torch.float64), "weights.pth"),
}
"""The form and the file's name, by what people would say of it."""


def rounded(weights: Weights, form: str) -> Weights:
    """Return the weights as they are after a form that has fewer digits, in float32."""
    dtype = {"in half precision": torch.float16, "in bfloat16": torch.bfloat16}.get(form, torch.float32)
    return {k: v.to(dtype).to(v.dtype) if v.is_floating_point() else v for k, v in weights.items()}
