"""A killed, stopped or damaged run goes on to the very end that the undisturbed one reaches."""

import json
import logging
import os
import random
import signal
import subprocess
import time

import pytest
import torch
from torch import nn

from nplp.engine.checkpoint import AtomicCheckpointer
from nplp.engine.interruption import Interrupted, finished_first, stopped_by_signals
from nplp.engine.pipeline import run
from nplp.engine.resuming import check_same_run, drop_lines_from
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.modeling import NPLP
from resumed_runs import assert_same_end, start, wait_for
from tiny import make_tiny_cfg


def killed_again_and_again(synthetic_root, output, seconds, kills, seed):
    """Kill a run at random moments and resume it, until it has been killed often enough."""
    rng = random.Random(seed)
    for attempt in range(kills + 1):
        process = start(synthetic_root, output, *(["--resume"] if attempt else []))
        try:
            shown, _ = process.communicate(timeout=rng.uniform(0.3, 1) * seconds if attempt < kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue
        assert process.returncode == 0, shown


def test_a_run_killed_at_random_moments_ends_as_the_undisturbed_one(undisturbed, synthetic_root, tmp_path):
    reference, seconds = undisturbed
    killed_again_and_again(synthetic_root, tmp_path, seconds, kills=3, seed=0)
    assert_same_end(tmp_path, reference)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills(undisturbed, synthetic_root, tmp_path, seed):
    reference, seconds = undisturbed
    killed_again_and_again(synthetic_root, tmp_path, seconds, kills=10, seed=1 + seed)
    assert_same_end(tmp_path, reference)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_and_the_run_goes_on_from_it(
    undisturbed, synthetic_root, tmp_path, number, status
):
    reference, _ = undisturbed
    process = start(synthetic_root, tmp_path)
    # The first line of an iteration comes right before its steps.
    wait_for("Iteration 2 of 3", process)
    time.sleep(0.3)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == status, shown
    assert f"stopped by {number.name}" in shown
    assert "--resume" in shown.strip().splitlines()[-1]
    assert "Traceback" not in shown
    process = start(synthetic_root, tmp_path, "--resume")
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    assert "Resuming" in shown
    assert_same_end(tmp_path, reference)


def test_a_signal_within_a_block_takes_effect_at_its_end():
    done = []

    def block():
        with stopped_by_signals():
            with finished_first() as interruption:
                os.kill(os.getpid(), signal.SIGTERM)
                done.append(interruption.agreed())
            done.append("not reached")

    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        block()
    assert done == [True]
    assert caught.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_does_not_wait(monkeypatch):
    monkeypatch.setattr("nplp.engine.interruption._ONE_SIGNAL", 0.0)
    done = []

    def block():
        with stopped_by_signals(), finished_first():
            for number in (1, 2):
                os.kill(os.getpid(), signal.SIGINT)
                done.append(number)

    with pytest.raises(Interrupted):
        block()
    assert done == [1]


def test_a_signal_outside_a_block_takes_effect_at_once():
    def block():
        with stopped_by_signals():
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(Interrupted, match="SIGINT") as caught:
        block()
    assert caught.value.exit_status == 130


def test_a_checkpoint_that_is_being_written_is_finished_first(synthetic_root, tmp_path, monkeypatch):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "DATALOADER.NUM_WORKERS", 0)
    prepare_output(cfg)
    write = torch.save

    def interrupted(data, file):
        os.kill(os.getpid(), signal.SIGTERM)
        write(data, file)

    def train():
        with stopped_by_signals():
            run(cfg, cfg, resume=False)

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(Interrupted, match="SIGTERM"):
        train()
    checkpointer = AtomicCheckpointer(nn.Identity(), str(tmp_path / "source"))
    assert torch.load(checkpointer.get_checkpoint_file(), weights_only=True)["epoch"] == 1
    assert not list((tmp_path / "source").glob("*.part"))


def saved_three_times(folder):
    model = nn.Linear(3, 2)
    checkpointer = AtomicCheckpointer(model, str(folder))
    for epoch in range(3):
        nn.init.constant_(model.weight, epoch)
        checkpointer.save_epoch(epoch, iter=epoch)
    return AtomicCheckpointer(nn.Linear(3, 2), str(folder))


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "altered": lambda path: path.write_bytes(path.read_bytes().replace(b"weight", b"wEight", 1)),
    "one bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(tmp_path, caplog, damage):
    checkpointer = saved_three_times(tmp_path)
    last, before = checkpointer.files()
    DAMAGES[damage](last)
    logging.getLogger("nplp").propagate = True
    with caplog.at_level(logging.WARNING):
        state = checkpointer.load(checkpointer.get_checkpoint_file())
    assert state["epoch"] == 2
    assert last.name in caplog.text
    assert before.name in caplog.text


def test_no_whole_checkpoint_is_one_line_that_names_them(tmp_path):
    checkpointer = saved_three_times(tmp_path)
    for path in checkpointer.files():
        path.write_bytes(b"torn")
    with pytest.raises(UserError, match=r"no checkpoint .* is whole") as caught:
        checkpointer.get_checkpoint_file()
    assert "\n" not in str(caught.value)


def test_a_full_disk_loses_nothing_and_says_so(tmp_path, monkeypatch):
    checkpointer = saved_three_times(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left on device"):
        checkpointer.save_epoch(3, iter=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    "pair",
    [
        ("MODEL.HEADS.EMBEDDING_DIM", 48),
        ("MODEL.BACKBONE.LAST_STRIDE", 2),
        ("INPUT.SIZE_TRAIN", [48, 16]),
        ("DATASETS.SYNTHETIC.CAMERAS", 4),
        ("SEED", 7),
    ],
)
def test_another_configuration_is_refused_with_the_keys_that_differ(synthetic_root, tmp_path, pair):
    cfg = make_tiny_cfg(synthetic_root, tmp_path)
    other = make_tiny_cfg(synthetic_root, tmp_path, *pair)
    check_same_run(cfg, cfg.dump(), "x.pth")
    with pytest.raises(UserError, match=pair[0]) as caught:
        check_same_run(other, cfg.dump(), "x.pth")
    assert "\n" not in str(caught.value)


def test_what_does_not_matter_may_differ(synthetic_root, tmp_path, caplog):
    cfg = make_tiny_cfg(synthetic_root, tmp_path)
    other = make_tiny_cfg(synthetic_root, tmp_path / "x", "DATALOADER.NUM_WORKERS", 3, "NPLP.ITERATIONS", 9)
    logging.getLogger("nplp").propagate = True
    with caplog.at_level(logging.WARNING):
        check_same_run(other, cfg.dump(), "x.pth")
    assert "NPLP.ITERATIONS 3 there, 9 now" in caplog.text
    assert "NUM_WORKERS" not in caplog.text


def test_lines_from_an_iteration_on_and_half_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.json"
    drop_lines_from(path, 3)
    assert not path.exists()
    lines = [json.dumps({"iteration": iteration, "loss": 0.5}) for iteration in (1, 2, 3, 9)]
    path.write_text("\n".join([*lines, '{"iteration": 10, "lo']))
    drop_lines_from(path, 3)
    assert path.read_text() == "".join(f"{line}\n" for line in lines[:2])


def test_a_loss_that_is_not_a_number_stops_before_the_weights(synthetic_root, tmp_path, monkeypatch):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "NPLP.SOURCE.MAX_EPOCH", 3)
    prepare_output(cfg)
    losses, calls = NPLP.losses, []

    def broken(self, output, targets):
        calls.append(1)
        factor = float("nan") if len(calls) == 10 else 1
        return {name: factor * loss for name, loss in losses(self, output, targets).items()}

    with monkeypatch.context() as patch:
        patch.setattr(NPLP, "losses", broken)
        with pytest.raises(
            UserError, match=r"epoch 2, step \d+: a loss is infinite or not a number"
        ) as caught:
            run(cfg, cfg, resume=False)
    assert "\n" not in str(caught.value)
    assert "nan" in str(caught.value)
    checkpointer = AtomicCheckpointer(nn.Identity(), str(tmp_path / "source"))
    saved = torch.load(checkpointer.get_checkpoint_file(), weights_only=True)
    assert saved["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in saved["model"].values())
