"""What a start does not import: each of these takes as long as all that is ours."""

import subprocess
import sys

import pytest

HEAVY = (
    "cv2",
    "faiss",
    "gdown",
    "infomap",
    "matplotlib",
    "numba",
    "onnx",
    "onnxruntime",
    "pandas",
    "polars",
    "scipy",
    "sklearn",
    "tensorboard",
    "timm",
    "torch._dynamo",
    "torch._inductor",
    "torchvision.datasets",
    "torchvision.models",
    "torchvision.ops",
)
COMMAND = """
import sys
from nplp_commands.train import build_parser
args = build_parser().parse_args(["--config-file", "configs/NPLP/quickstart.yml"])
assert "nplp" not in sys.modules and "torch" not in sys.modules
from nplp.engine.setup import load_config
import nplp.engine.pipeline
load_config(args)
"""
STEP = """
import torch, nplp
from fastreid.solver import build_optimizer
from nplp.config import default_config
cfg = default_config()
cfg.SOLVER.OPT = {optimizer!r}
optimizer, _ = build_optimizer(cfg, torch.nn.Sequential(torch.nn.Linear(2, 1)))
optimizer.zero_grad()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
"""


def imported(code: str) -> set[str]:
    """Return which of the heavy modules a program has imported at its end."""
    code += f"\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code", ["import nplp", COMMAND, *(STEP.format(optimizer=name) for name in ("Adam", "SGD"))],
    ids=["import", "command", "Adam", "SGD"],
)  # fmt: skip
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    assert imported(code) == set()


def test_what_was_left_for_later_is_there_when_it_is_asked_for():
    code = """
import nplp, torchvision, torch
assert torchvision.models.resnet18 and torchvision.datasets.VisionDataset
assert torchvision.ops.Conv2dNormActivation
import torchvision.models
assert isinstance(torchvision.models.resnet18(), torch.nn.Module)
"""
    assert {"torchvision.models", "torchvision.datasets", "torchvision.ops"} <= imported(code)
