"""A run killed once in each stage of its work, and resumed each time, ends as the undisturbed one."""

import re

from resumed_runs import assert_same_end, killing, start

# In the order of a run: three iterations of two epochs. Counts are of calls since the run was resumed.
STAGES = {
    "a step of the pre-training": ("nplp.engine.trainer:ReidTrainer._run_step", 8, "after"),
    "the first checkpoint": ("torch:save", 1, "after"),
    "the direct transfer": ("nplp.evaluation.evaluator:BoundedReidEvaluator.evaluate", 1, "before"),
    "extraction": ("nplp.engine.pseudo_labels:extract_features", 1, "before"),
    "clustering": ("nplp.methods.nplp:estimate_pseudo_labels", 1, "after"),
    "an optimiser step of the second epoch": ("nplp.engine.trainer:ReidTrainer.run_step", 9, "after"),
    "a checkpoint, before it has its name": ("nplp.files:summed_name", 1, "after"),
    "a checkpoint, right after it has its name": ("nplp.files:_synchronise", 1, "before"),
    "results.json": ("nplp.engine.run_record:write_atomically", 3, "before"),
    "between results.json and pseudo_labels.jsonl": ("nplp.engine.run_record:write_atomically", 3, "after"),
    "the evaluation of an iteration": ("nplp.engine.adaptation:evaluate", 1, "before"),
    "clustering with correction": ("nplp.methods.nplp:estimate_pseudo_labels", 1, "before"),
    "the final model": ("nplp.engine.trainer:save_atomically", 1, "before"),
}


def test_a_run_killed_in_every_stage_ends_as_the_undisturbed_one(undisturbed, synthetic_root, tmp_path):
    reference, _ = undisturbed
    process = start(synthetic_root, tmp_path, program=killing(*STAGES.values()))
    shown, _ = process.communicate(timeout=600)
    assert process.returncode == 0, shown
    assert_same_end(tmp_path, reference)
    assert not list(tmp_path.rglob("*.part"))
    assert_at_most_an_epoch_repeated((tmp_path / "log.txt").read_text(), str(tmp_path))


def assert_at_most_an_epoch_repeated(log, folder):
    finished, resumed = 0, 0
    for line in log.splitlines():
        if done := re.search(r"  epoch (\d+), \d+ steps", line):
            finished = int(done[1])
        if again := re.search(rf"Resuming {re.escape(folder)} after epoch (\d+)", line):
            assert int(again[1]) >= finished - 1
            finished = int(again[1])
            resumed += 1
    assert finished == 6
    assert resumed >= 6
