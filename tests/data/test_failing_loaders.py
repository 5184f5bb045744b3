"""Images that vanish and workers that die during a run: one line that names what happened, and no hang."""

import errno
import os
import re
import signal
from pathlib import Path

import pytest

from nplp.data import loaders
from nplp.data.datasets import load_dataset
from nplp.data.loaders import ImageSet, build_test_loader, workers_watched
from nplp.engine import pseudo_labels as hook_module
from nplp.engine.checkpoint import AtomicCheckpointer
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from resumed_runs import start, wait_for
from tiny import make_tiny_cfg

by_forking = pytest.mark.skipif(
    os.environ.get("NPLP_TEST_START_METHOD") == "spawn",
    reason="the fault is made in this process, and workers that are spawned do not have it",
)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_is_named_in_one_line(synthetic_root, tmp_path, workers):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "DATALOADER.NUM_WORKERS", workers)
    items = load_dataset(cfg, "SynthStation").query[:6]
    gone = str(tmp_path / "vanished näme.jpg")
    items[3] = (gone, *items[3][1:])
    with pytest.raises(UserError, match="cannot be read any more") as caught:
        list(build_test_loader(cfg, items))
    assert "\n" not in str(caught.value)
    assert repr(gone) in str(caught.value)
    assert str(caught.value).startswith(repr(gone))


def test_a_run_keeps_what_it_saved_when_an_image_vanishes(synthetic_root, tmp_path, monkeypatch):
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", "NPLP.EVAL_PERIOD", 0)
    prepare_output(cfg)
    extract = hook_module.extract_features

    def vanishing(cfg, model, items, description, **options):
        if "iteration 2" in description:
            items = [(str(tmp_path / "gone.jpg"), *items[0][1:]), *items[1:]]
        return extract(cfg, model, items, description, **options)

    with monkeypatch.context() as patch:
        patch.setattr(hook_module, "extract_features", vanishing)
        with pytest.raises(UserError, match=r"gone\.jpg"):
            run(cfg, cfg, resume=False)
    assert Path(AtomicCheckpointer(None, cfg.OUTPUT_DIR).get_checkpoint_file()).name.startswith("epoch_0001")
    assert run(cfg, cfg, resume=True)["final"]


@by_forking
def test_a_worker_that_is_killed_is_an_error_and_no_hang(synthetic_root, tmp_path, monkeypatch):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "DATALOADER.NUM_WORKERS", 2)
    items = load_dataset(cfg, "SynthStation").query
    parent = os.getpid()

    def killed(self, index):
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ImageSet, "__getitem__", killed)

    def read():
        with workers_watched():
            list(build_test_loader(cfg, items))

    before = signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(UserError, match="a worker that reads images died .*NUM_WORKERS") as caught:
            read()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "pid(s) 7, 8"),
        (EOFError(), "EOFError"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    ],
)
def test_the_death_of_a_worker_is_one_line_with_its_reason(synthetic_root, tmp_path, error, reason):
    cfg = make_tiny_cfg(synthetic_root, tmp_path)
    loader = build_test_loader(cfg, load_dataset(cfg, "SynthStation").query)

    class Dying:
        dataset = None

        def __iter__(self):
            yield {"images": 0}
            raise error

    loader.loader = Dying()

    def die():
        with workers_watched():
            list(loader)

    before = signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(UserError, match="a worker that reads images died") as caught:
            die()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@by_forking
def test_the_systems_error_that_ended_a_worker_is_named(synthetic_root, tmp_path, monkeypatch):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "DATALOADER.NUM_WORKERS", 2)
    items = load_dataset(cfg, "SynthStation").query

    def failing(self, index):
        loaders._end_feeding(OSError(errno.EMFILE, "Too many open files"), None)

    monkeypatch.setattr(ImageSet, "__getitem__", failing)

    def read():
        with workers_watched():
            list(build_test_loader(cfg, items))

    before = signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(UserError, match=r"a worker that reads images died \(Too many open files\)"):
            read()
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes do not match"), EOFError("of a file"), ConnectionResetError(104, "by a peer")],
)
def test_errors_that_have_nothing_to_do_with_workers_pass(error):
    def fail():
        with workers_watched():
            raise error

    with pytest.raises(type(error), match=re.escape(str(error))):
        fail()


def test_a_run_whose_worker_is_killed_ends_with_code_two(synthetic_root, tmp_path):
    process = start(
        synthetic_root, tmp_path, options=["DATALOADER.NUM_WORKERS", "2", "NPLP.SOURCE.MAX_EPOCH", "50"]
    )
    # Not in the first step, at which torch imports what swallows the error that a dead worker raises.
    wait_for("Epoch 1 of 50", process)
    workers = []
    while not workers:
        assert process.poll() is None
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[0]), signal.SIGKILL)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 2, shown
    assert "Traceback" not in shown
    assert "a worker that reads images died" in shown.strip().splitlines()[-1]
