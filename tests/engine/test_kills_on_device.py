"""A run that augments on the device, killed or stopped and resumed, ends as the undisturbed one."""

import torch

from method_runs import STEPS, Case, adapt
from resumed_runs import assert_same_end, killing, start

OPTIONS = ("INPUT.ON_DEVICE", "True", "NPLP.ITERATIONS", "2", "NPLP.STARTUP_ITERATIONS", "1")
STEPS_OF_SOURCE = 12
"""Two epochs of the pre-training, of 96 images in batches of 16."""
AUGMENTED = {
    "INPUT.ON_DEVICE": True,
    **{f"INPUT.{name}.ENABLED": True for name in ("FLIP", "PADDING", "REA")},
}


def run(synthetic_root, output, *arguments, **options):
    process = start(synthetic_root, output, *arguments, options=OPTIONS, **options)
    shown, _ = process.communicate(timeout=300)
    return process.returncode, shown


def test_killed_in_the_second_epoch_it_ends_on_the_same_bits(synthetic_root, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    status, shown = run(synthetic_root, undisturbed)
    assert status == 0, shown
    step = ("nplp.engine.trainer:ReidTrainer.run_step", STEPS_OF_SOURCE + 9, "after")
    status, shown = run(synthetic_root, killed, program=killing(step))
    assert status == 0, shown
    assert f"Resuming {killed} after epoch 1" in shown
    assert_same_end(killed, undisturbed)


def test_stopped_within_an_epoch_a_method_of_two_views_ends_on_the_same_bits(synthetic_root, tmp_path):
    case = Case("mmt", {"NPLP.MMT.RHO": 0.05, "NPLP.MMT.K1": 10, **AUGMENTED})

    def words(folder):
        return case.words("mmt", synthetic_root, tmp_path / folder)

    undisturbed = adapt(words("undisturbed"))["weights"]
    assert adapt(words("stopped"), stop_after=STEPS + 2)["stopped"]
    resumed = adapt(words("stopped"), resume=True)
    assert "begun" not in resumed, "it began afresh"
    assert all(torch.equal(resumed["weights"][key], value) for key, value in undisturbed.items())
