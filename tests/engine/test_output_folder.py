"""One run at a time in a folder, and an earlier one kept whole, whenever the move is cut short."""

import errno
import logging
import multiprocessing
import os
from pathlib import Path

import pytest

from nplp.engine import output_folder
from nplp.engine.output_folder import LOCK, OutputFolder, held, set_old_end_apart
from nplp.errors import UserError

FILES = (
    "config.yaml",
    "log.txt",
    "results.json",
    "metrics.json",
    "model_final.pth",
    "model_final_ema.pth",
    "epoch_0003_step_000000-0123456789abcdef.pth",
    "source/model_final.pth",
    "trace/images.npz",
    "events.out.tfevents.1",
    "bundle/SHA256SUMS",
    "index/index.json",
)


@pytest.fixture
def folder(tmp_path):
    """A folder with a run and with somebody's own file."""
    path = tmp_path / "run"
    for name in FILES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    (path / "notes.txt").write_text("mine")
    return path


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK
    }


def begin(folder, resume=False, **options):
    with held(folder, resume) as place:
        place.begin(aside=not resume, **options)


def test_every_start_keeps_the_run_before_it(folder):
    before = contents(folder)
    own = {name: text for name, text in before.items() if name != "notes.txt"}
    begin(folder)
    assert contents(folder / "earlier_runs" / "0001") == own
    (folder / "results.json").write_text("second")
    begin(folder)
    assert contents(folder / "earlier_runs" / "0002") == {"results.json": "second"}
    assert contents(folder / "earlier_runs" / "0001") == own
    assert (folder / "notes.txt").read_text() == "mine"


def test_what_only_began_is_not_kept(tmp_path):
    for name in ("config.yaml", "log.txt"):
        (tmp_path / name).write_text(name)
    begin(tmp_path)
    assert set(contents(tmp_path)) == {"config.yaml", "log.txt"}


def test_a_removed_run_leaves_only_what_is_somebodys_own(folder):
    begin(folder, overwrite=True)
    assert contents(folder) == {"notes.txt": "mine"}
    assert not (folder / "earlier_runs").exists()


def test_a_folder_of_others_stays_whatever_its_name(folder):
    (folder / "bundle" / "SHA256SUMS").rename(folder / "bundle" / "mine.txt")
    begin(folder, overwrite=True)
    assert contents(folder) == {"notes.txt": "mine", "bundle/mine.txt": "bundle/SHA256SUMS"}


def test_a_link_goes_on_pointing_to_what_it_pointed_to(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model_final.pth").write_text("shared")
    (folder / "source" / "model_final.pth").unlink()
    (folder / "source").rmdir()
    (folder / "source").symlink_to("../elsewhere")
    begin(folder)
    kept = folder / "earlier_runs" / "0001" / "source"
    assert (kept / "model_final.pth").read_text() == "shared"


class _KilledError(BaseException):
    """Stands for SIGKILL: nothing catches it, and what a dead process does not do is left out."""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_kill_at_any_moment_of_the_move_loses_nothing(folder, monkeypatch, resumed, overwrite):
    before = contents(folder)
    own = {name: text for name, text in before.items() if name != "notes.txt"}
    rename, calls = Path.rename, []
    # Each top-level name, then the folder itself.
    for moment in range(2 * (len(FILES) + 1)):

        def killed(path, target, moment=moment):
            calls.append(1)
            if len(calls) == moment // 2 + 1:
                if moment % 2:
                    rename(path, target)
                raise _KilledError
            return rename(path, target)

        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", killed)
            with pytest.raises(_KilledError):
                begin(folder, overwrite=overwrite)
        moved = contents(folder / "earlier_runs")
        here = {name: text for name, text in contents(folder).items() if not name.startswith("earlier_runs")}
        assert {*here.values(), *moved.values()} == set(before.values())
        if moment == 2 * len(FILES) + 1:
            break
        if resumed:
            begin(folder, resume=True)
            assert contents(folder) == before
    begin(folder)
    if not overwrite:
        assert contents(folder / "earlier_runs" / "0001") == own
    assert contents(folder)["notes.txt"] == "mine"


@pytest.mark.parametrize("after", [0, 1, 5, len(FILES) - 1])
def test_a_move_that_fails_is_one_line_and_everything_is_where_it_was(folder, monkeypatch, after):
    before, rename, calls = contents(folder), Path.rename, []

    def refuse(path, target):
        if "source" not in path.parts:
            calls.append(1)
        if len(calls) == after + 1:
            calls.append(1)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match="No space left on device") as caught:
        begin(folder)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    assert not (folder / "earlier_runs").exists()


def hold(path, ready, leave):
    with held(path, resume=False):
        worker = os.fork()
        if not worker:
            os.execvp("sleep", ["sleep", "60"])
        ready.send(worker)
        leave.recv()


def test_a_folder_is_held_until_the_process_ends_however_it_does(tmp_path):
    path = tmp_path / "new" / "run"
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(path, theirs, theirs))
    process.start()
    worker = ours.recv()
    try:
        with pytest.raises(UserError, match=f"is in use by process {process.pid} on .* since 20") as caught:
            begin(path)
        assert "\n" not in str(caught.value)
        process.kill()
        process.join()
        # Its worker lives on, and does not hold the folder.
        os.kill(worker, 0)
        begin(path)
    finally:
        os.kill(worker, 9)
    assert not (path / LOCK).exists()


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", refuse)
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    with caplog.at_level("WARNING"):
        begin(tmp_path)
    assert "cannot be locked (No locks available): begin no second run in it" in caplog.text


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/nplp"])
def test_a_folder_that_cannot_be_is_one_line_and_nothing_is_left(tmp_path, place):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(UserError, match="OUTPUT_DIR .* cannot be written"):
        begin(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_end_of_a_shorter_run_gets_its_own_name(folder):
    for name in ("report.html", "figures/map.svg", "trace/ranks_final.npz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    for _ in range(2):
        set_old_end_apart(folder, "iteration_0003")
    assert (folder / "model_iteration_0003.pth").read_text() == "model_final.pth"
    assert (folder / "model_iteration_0003_ema.pth").read_text() == "model_final_ema.pth"
    assert (folder / "report_iteration_0003.html").read_text() == "report.html"
    assert (folder / "figures_iteration_0003" / "map.svg").exists()
    left = set(contents(folder))
    assert left.isdisjoint({"model_final.pth", "model_final_ema.pth", "report.html", "trace/ranks_final.npz"})
    assert "trace/images.npz" in left


@pytest.mark.parametrize("stale", [None, b"", b"another process's"])
def test_a_process_with_another_folder_is_refused_by_all(tmp_path, monkeypatch, stale):
    monkeypatch.setattr(output_folder, "TIME_TO_APPEAR", 0.3)
    own, other = tmp_path / "own", OutputFolder(tmp_path / "other")
    other.path.mkdir()
    if stale is not None:
        (other.path / LOCK).write_bytes(stale)
    monkeypatch.setattr(output_folder, "from_all", lambda mine: [(True, str(own), "first"), mine])
    with pytest.raises(UserError, match="another folder than .*own' of process 0 on first: set it to one"):
        output_folder._check_one_folder(other, b"the main process's")


def test_a_folder_that_all_share_is_waited_for(tmp_path, monkeypatch):
    """A network drive shows a file to another machine a while after it was written."""
    main, other = OutputFolder(tmp_path), OutputFolder(tmp_path)
    mark = main.take()
    assert mark
    seen, read = [], output_folder._content
    monkeypatch.setattr(
        output_folder, "_content", lambda path: seen.append(path) or (read(path) if len(seen) > 2 else None)
    )
    for folder in (main, other):
        output_folder._check_one_folder(folder, mark)
    assert len(seen) == 3
    main.release()
