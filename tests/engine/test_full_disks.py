"""Disks that are full, folders that cannot be written, limits of the system: one line, and nothing lost."""

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nplp.engine.checkpoint import AtomicCheckpointer
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.files import sha256_of
from resumed_runs import assert_same_end, start
from tiny import make_tiny_cfg


def enough_for_two(folder: Path) -> int:
    """Return the kilobytes of a run's source model and of two of its checkpoints, but not of a third."""
    source = sum(path.stat().st_size for path in (folder / "source").iterdir())
    checkpoint = max(path.stat().st_size for path in folder.glob("epoch_*.pth"))
    return (source + 5 * checkpoint // 2) // 1024


def assert_one_line(process, shown):
    assert process.returncode == 2, shown
    assert "Traceback" not in shown
    assert "Logging error" not in shown
    return shown.strip().splitlines()[-1]


@contextmanager
def small_disk(folder, kilobytes):
    """A file system of a given size, where the system lets one be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: needs Linux and root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def whole_checkpoints(folder):
    return [
        path
        for path in AtomicCheckpointer(torch.nn.Identity(), str(folder)).files()
        if sha256_of(path).startswith(path.stem.rpartition("-")[2])
    ]


def test_a_disk_that_fills_up_ends_the_run_and_room_lets_it_go_on(undisturbed, synthetic_root, tmp_path):
    reference, _ = undisturbed
    with small_disk(tmp_path / "disk", enough_for_two(reference)) as folder:
        process = start(synthetic_root, folder)
        shown, _ = process.communicate(timeout=300)
        last = assert_one_line(process, shown)
        assert "No space left on device" in last
        assert str(folder) in last
        saved = {path.name for place in (folder, folder / "source") for path in whole_checkpoints(place)}
        assert saved
        assert not list(folder.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=2g", str(folder)], check=True)
        process = start(synthetic_root, folder, "--resume")
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
        assert_same_end(folder, reference)


def test_a_folder_that_can_only_be_read_is_one_line_before_anything_is_trained(synthetic_root, tmp_path):
    with small_disk(tmp_path / "disk", 1024) as folder:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        process = start(synthetic_root, folder)
        shown, _ = process.communicate(timeout=60)
        last = assert_one_line(process, shown)
        assert "OUTPUT_DIR" in last
        assert "Read-only file system" in last


LIMITS = {
    "files may not grow": (resource.RLIMIT_FSIZE, 1_500_000, "File too large", []),
    "few open files": (resource.RLIMIT_NOFILE, 24, "Too many open files", ["DATALOADER.NUM_WORKERS", "2"]),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_of_the_system_is_one_line(synthetic_root, tmp_path, limit):
    kind, value, said, options = LIMITS[limit]
    # Drawn before, without the limit.
    make_ready = make_tiny_cfg(synthetic_root, tmp_path / "x")
    from nplp.data.datasets import load_dataset

    for name in ("SynthPlaza", "SynthStation"):
        load_dataset(make_ready, name)

    def limited():
        resource.setrlimit(kind, (value, value))

    process = start(synthetic_root, tmp_path / "run", options=options, preexec_fn=limited)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 2, shown
    # What workers say who cannot open a file comes from Python itself, in any order.
    (line,) = [line for line in shown.splitlines() if line.startswith("train_net:")]
    assert said in line
    assert not list((tmp_path / "run").rglob("*.part"))


WRITERS = {
    "config.yaml": ("nplp.engine.setup.write_atomically", "cannot be written"),
    "checkpoint": ("torch.save", "cannot be written"),
    "any file, when it is synchronised": ("nplp.files.os.fsync", "cannot be written"),
}


@pytest.mark.parametrize("file", WRITERS)
def test_every_file_that_a_full_disk_refuses_is_named_in_one_line(
    synthetic_root, tmp_path, monkeypatch, file
):
    target, said = WRITERS[file]
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "NPLP.ITERATIONS", 1, "NPLP.SOURCE.MAX_EPOCH", 1)

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(target, refuse)

    def train():
        prepare_output(cfg)
        run(cfg, cfg, resume=False)

    with pytest.raises(UserError, match=said) as caught:
        train()
    assert "No space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(Path(tmp_path).rglob("*.part"))
