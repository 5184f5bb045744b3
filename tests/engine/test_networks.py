"""What trains beside a model: where it begins, what is saved of it, and what is refused before."""

import logging
from pathlib import Path

import pytest
import torch

from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from tiny import make_tiny_cfg

MMT = (
    *("NPLP.METHOD", "mmt", "MODEL.LOSSES.NAME", "('MutualTeachingLoss',)", "MODEL.HEADS.PAP", 1),
    *("MODEL.HEADS.FUSION", "concat", "MODEL.HEADS.OUTPUT", "f_bn", "DATASETS.TESTS", "()"),
)


def mmt_cfg(synthetic_root, output, *pairs):
    return make_tiny_cfg(synthetic_root, output, *MMT, *pairs)


def adapted(cfg):
    prepare_output(cfg)
    run(cfg, cfg, resume=False)
    return torch.load(Path(cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)["model"]


@pytest.fixture(scope="module")
def sources(synthetic_root, tmp_path_factory):
    """Two source models of other seeds."""
    paths = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp(f"source{seed}")
        adapted(mmt_cfg(synthetic_root, folder, "NPLP.ITERATIONS", 0, "SEED", seed))
        paths.append(folder / "source" / "model_final.pth")
    return paths


def test_two_source_models_are_trained_and_the_first_teacher_is_saved(
    sources, synthetic_root, tmp_path, caplog
):
    first, second = sources
    pairs = ("NPLP.SOURCE.WEIGHTS", first, "NPLP.MMT.SECOND_WEIGHTS", second)
    with caplog.at_level(logging.INFO):
        final = adapted(
            mmt_cfg(
                *(synthetic_root, tmp_path, *pairs, "NPLP.ITERATIONS", 1, "NPLP.STEPS_PER_EPOCH", 3),
                *("NPLP.EPOCHS_PER_ITERATION", 1, "NPLP.MMT.RHO", 0.05),
            )
        )
    assert any("the second begins from" in line and str(second) in line for line in caplog.messages)
    begun = torch.load(first, weights_only=True)["model"]
    # The classifier of the source's people stays behind.
    assert final.keys() == begun.keys() - {"heads.classifier.weight"}
    weights = [key for key in final if key.startswith("backbone.") and key.endswith(".weight")]
    assert any(not torch.equal(final[key], begun[key]) for key in weights)
    saved = next(path for path in tmp_path.glob("epoch_*-*.pth"))
    kept = torch.load(saved, weights_only=True)["model"]
    ours, theirs = (kept[f"networks.students.{number}.{weights[0]}"] for number in range(2))
    assert not torch.equal(ours, theirs)


@pytest.mark.parametrize("given", [True, False], ids=["weights", "pre-training"])
def test_a_second_source_model_that_is_missing_is_refused_first(sources, synthetic_root, tmp_path, given):
    pairs = ("NPLP.SOURCE.WEIGHTS", sources[0]) if given else ()
    output = tmp_path / "run"
    cfg = mmt_cfg(synthetic_root, output, *pairs, "NPLP.MMT.SECOND_WEIGHTS", tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"none\.pth"):
        run(cfg, cfg, resume=False)
    assert not list(output.glob("*.pth"))
    assert not (output / "source").exists()
