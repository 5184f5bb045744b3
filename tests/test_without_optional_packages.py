"""Training and evaluation start where only what they really need is installed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONAL = (
    "faiss",
    "matplotlib",
    "jinja2",
    "tensorboard",
    "gdown",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "Cython",
    "cv2",
    "pandas",
)
"""Needed by re-ranking, the page, TensorBoard's files, downloads of weights, and exports alone."""


def run(code: str) -> str:
    """Return what a program prints in which none of the optional packages can be imported."""
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\n"
    done = subprocess.run(
        [sys.executable, "-c", hidden + code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_pipeline_is_imported_and_a_model_built_and_written_about(tmp_path):
    printed = run(
        f"""
import nplp.engine.pipeline, nplp.clustering, nplp.evaluation
sys.path.insert(0, "tests")
from pathlib import Path
from tiny import make_tiny_cfg
from nplp.engine.trainer import ReidTrainer
from nplp.engine.setup import prepare_output
cfg = make_tiny_cfg(Path({str(tmp_path)!r}), Path({str(tmp_path / "run")!r}))
prepare_output(cfg)
trainer = ReidTrainer(cfg)
print([type(writer).__name__ for writer in trainer.build_writers()])
"""
    )
    assert printed.splitlines()[-1] == "['JSONWriter']"


def test_what_stood_in_for_a_missing_package_is_taken_away_again():
    printed = run(
        """
import nplp
from fastreid.utils import compute_dist
print("torch.utils.tensorboard" in sys.modules, sys.modules["faiss"])
try:
    compute_dist.faiss.IndexFlatL2
except ImportError as error:
    print("asked for:", "faiss" in str(error))
"""
    )
    assert printed.splitlines() == ["False None", "asked for: True"]
