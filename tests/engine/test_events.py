"""Nothing that is logged at an epoch's end is lost."""

import json
from types import SimpleNamespace

import pytest
from fastreid.utils.events import EventStorage, JSONWriter

from nplp.engine.events import EpochWriter


@pytest.mark.parametrize("period", [1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize("lengths", [[1], [4, 4, 4], [5, 1, 2], [3, 5, 1]])
def test_every_epoch_has_its_line(tmp_path, period, lengths):
    path = tmp_path / "metrics.json"
    hook = EpochWriter([JSONWriter(str(path))], period)
    trainer = hook.trainer = SimpleNamespace(iter=0, max_iter=sum(lengths))
    with EventStorage(0) as storage:
        for epoch, length in enumerate(lengths):
            trainer.steps_per_epoch = length
            for step in range(length):
                trainer.step = step
                storage.iter = trainer.iter
                storage.put_scalar("loss", trainer.iter, smoothing_hint=False)
                hook.after_step()
                trainer.iter += 1
            storage.put_scalar("labels/iteration", epoch + 1, smoothing_hint=False)
            hook.after_epoch()
        hook.after_train()
    lines = [json.loads(line) for line in path.open()]
    assert [line["labels/iteration"] for line in lines if "labels/iteration" in line] == [
        epoch + 1 for epoch in range(len(lengths))
    ]
    steps = [line["iteration"] for line in lines]
    assert steps == sorted(set(steps))
    ends = {sum(lengths[: epoch + 1]) - 1 for epoch in range(len(lengths))}
    assert set(steps) == ends | {step for step in range(sum(lengths)) if (step + 1) % period == 0}
    assert all(line["loss"] == line["iteration"] for line in lines)
