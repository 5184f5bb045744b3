"""The run on a GPU: its order, deadline and output; its parts in miniature on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gpu
import gpu_models
import gpu_parts
from child_process import MeasurementError, read_lines, read_records
from fresh_process import tf32_products
from gpu_plan import Figures, Note, Part, carry_out

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that goes on when a part says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new" / "gpu.json"


def parts_in(output: Path) -> dict[str, Any]:
    parts: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))["parts"]
    return parts


def taking(clock: Clock, seconds: float, *measured: dict[str, Any]) -> Callable[[Note, float], None]:
    """Return a measurement that notes something and takes time."""

    def measure(note: Note, limit: float) -> None:
        for one in measured:
            note(one)
        clock.now += min(seconds, limit)

    return measure


def test_a_part_whose_time_is_not_left_is_skipped_and_a_shorter_one_is_not(output: Path) -> None:
    clock = Clock()
    parts = [
        Part("first", 10, 40, taking(clock, 50, {"a": 1})),
        Part("long", 30, 60, taking(clock, 1)),
        Part("short", 5, 60, taking(clock, 1, {"b": 2})),
        Part("no data", 0, 60, taking(clock, 1), lacks="no --data"),
    ]
    assert carry_out(parts, Figures(output, {"parts": {}}), 60, clock)
    assert parts_in(output) == {
        "first": {"status": "done", "measured": [{"a": 1}], "seconds": 40},
        "long": {"status": "skipped", "reason": "20 s left, it needs about 30"},
        "short": {"status": "done", "measured": [{"b": 2}], "seconds": 1},
        "no data": {"status": "skipped", "reason": "no --data"},
    }


def test_a_part_gets_no_more_than_what_is_left(output: Path) -> None:
    clock, limits = Clock(), []
    parts = [
        Part("a", 0, 30, lambda note, limit: (limits.append(limit), taking(clock, 25)(note, limit))),
        Part("b", 0, 30, lambda note, limit: limits.append(limit)),
    ]
    carry_out(parts, Figures(output, {"parts": {}}), 40, clock)
    assert limits == [30, 15]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate"), "CUDA out of memory. Tried"),
        (KeyError(), "KeyError"),
        (MeasurementError("exit status -9: it said nothing"), "exit status -9"),
    ],
)
def test_a_failure_is_one_line_and_the_next_part_goes_on(output: Path, error: Exception, reason: str) -> None:
    def fail(note: Note, limit: float) -> None:
        note({"known": 1})
        raise error

    parts = [Part("bad", 0, 9, fail), Part("good", 0, 9, taking(Clock(), 0))]
    assert not carry_out(parts, Figures(output, {"parts": {}}), 60)
    found = parts_in(output)
    assert found["bad"]["status"] == "failed"
    assert found["bad"]["reason"].startswith(reason)
    assert "\n" not in found["bad"]["reason"]
    assert found["bad"]["measured"] == [{"known": 1}]
    assert found["good"]["status"] == "done"


def test_what_was_measured_is_on_disk_at_once_and_whole(output: Path) -> None:
    def interrupted(note: Note, limit: float) -> None:
        note({"first": 1})
        assert parts_in(output)["part"] == {"status": "unfinished", "measured": [{"first": 1}]}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out([Part("part", 0, 9, interrupted)], Figures(output, {"parts": {}}), 60)
    assert parts_in(output)["part"]["measured"] == [{"first": 1}]
    assert list(output.parent.iterdir()) == [output]


def test_resuming_measures_only_what_is_not_done(output: Path) -> None:
    known = {"done": {"status": "done", "measured": [1]}, "bad": {"status": "failed", "measured": [2]}}
    parts = [Part(name, 0, 9, taking(Clock(), 0, {"new": name})) for name in ("done", "bad")]
    carry_out(parts, Figures(output, {"parts": known}), 60)
    assert parts_in(output)["done"]["measured"] == [1]
    assert parts_in(output)["bad"]["measured"] == [{"new": "bad"}]


def test_figures_of_another_commit_or_of_something_else_are_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    about = {"card": "A", "commit": "1"}
    assert gpu.earlier_figures(path, about) == {}
    path.write_text(json.dumps({**about, "parts": {"x": {}}}))
    assert gpu.earlier_figures(path, about) == {"x": {}}
    with pytest.raises(ValueError, match="is of commit 1, this is 2"):
        gpu.earlier_figures(path, {**about, "commit": "2"})
    for text in ("[]", "{", "{}"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no output of this script"):
            gpu.earlier_figures(path, about)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output", "x.json"], "no CUDA device is there"),
        ([], "--output is missing"),
        (["--render"], "--render needs --data"),
        (["--output", "x.json", "--miniature", "--parts", "speed"], "--parts: speed is none of environment"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_code_2(
    options: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    assert gpu.main(options) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"gpu: {said}")
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named_by_what_installs_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = gpu.find_spec
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name in ("sklearn", "yacs") else there(name))
    assert gpu.main(["--miniature", "--output", "x.json"]) == 2
    assert capsys.readouterr().err == "gpu: missing packages, install them first: scikit-learn, yacs\n"


def test_a_process_that_takes_too_long_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time, pathlib\ntime.sleep(3)\npathlib.Path({str(alive)!r}).touch()"
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "print('{\"n\": 1}', flush=True)\ntime.sleep(60)"
    )
    seen: list[dict[str, Any]] = []
    start = time.monotonic()
    with pytest.raises(MeasurementError, match="stopped after 1 s"):
        read_records([sys.executable, "-c", code], seen.append, seconds=1)
    assert time.monotonic() - start < 30
    time.sleep(3)
    assert not alive.exists()


def test_a_process_that_fails_says_why() -> None:
    code = "import sys\nprint('{\"n\": 1}')\nsys.exit('what was wrong')"
    seen: list[dict[str, Any]] = []
    with pytest.raises(MeasurementError, match="exit status 1: what was wrong"):
        read_records([sys.executable, "-c", code], seen.append)
    assert seen == [{"n": 1}]
    lines: list[str] = []
    read_lines([sys.executable, "-c", code], lines.append, good=(0, 1))
    assert lines == ['{"n": 1}\n']


PYTEST_OUTPUT = """\
tests/a.py::test_x[b - c] PASSED                                         [ 20%]
tests/a.py::test_y SKIPPED (needs a CUDA device)                         [ 40%]
tests/a.py::test_z FAILED                                                [ 60%]
tests/b.py::test_z FAILED                                                [ 60%]
=========================== short test summary info ============================
FAILED tests/a.py::test_z - RuntimeError: CUDA error: an illegal memory access
ERROR tests/c.py - ModuleNotFoundError: No module named 'hypothesis'
"""


def test_the_tests_are_counted_and_their_failures_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(command: list[str], on_line: Callable[[str], None], *_: object) -> None:
        assert {"-m", "gpu"} <= set(command)
        assert any(path.endswith("test_devices.py") for path in command)
        for line in PYTEST_OUTPUT.splitlines(keepends=True):
            on_line(line)

    monkeypatch.setattr(gpu_parts, "read_lines", read)
    noted: list[dict[str, Any]] = []
    with pytest.raises(MeasurementError, match="3 failed"):
        gpu_parts.tests(noted.append, 60)
    failures = noted[0].pop("failures")
    assert noted == [{"passed": 1, "skipped": 1, "failed": 2}]
    assert failures == {
        "tests/a.py::test_z": "RuntimeError: CUDA error: an illegal memory access",
        "tests/b.py::test_z": "",
        "tests/c.py": "ModuleNotFoundError: No module named 'hypothesis'",
    }


def test_the_most_valuable_parts_come_first_and_say_what_they_lack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = gpu_parts.build_parts(None, miniature=False)
    names = [part.name for part in parts]
    assert names[:5] == [
        "environment",
        "tests",
        *(f"pseudo-labels {count}x1024" for count in (12936, 32621, 126441)),
    ]
    lacking = [part.name for part in parts if part.lacks]
    assert lacking == ["loader NPLP", "adaptation", "loader Baseline"]
    assert "render the pair with --render first" in gpu_parts.why_not(tmp_path, gpu_parts.FULL)
    # What has to be begun fits into the time that is usually there.
    assert sum(part.least for part in parts) < 9 * 60


def test_a_rendered_pair_is_found_again(tmp_path: Path) -> None:
    assert gpu_parts.why_not(tmp_path, gpu_parts.MINIATURE)
    gpu_parts.render(tmp_path, miniature=True)
    assert gpu_parts.why_not(tmp_path, gpu_parts.MINIATURE) == ""
    assert gpu_parts.why_not(tmp_path, gpu_parts.FULL)


@pytest.mark.parametrize("before", ["ieee", "tf32", "none"])
def test_the_setting_of_products_is_put_back(before: str) -> None:
    products = torch.backends.cuda.matmul
    if not hasattr(products, "fp32_precision"):
        pytest.skip("this torch has the older setting alone")
    original = products.fp32_precision
    try:
        products.fp32_precision = before
        for allowed in (True, False):
            with tf32_products(allowed):
                assert products.fp32_precision == ("tf32" if allowed else "ieee")
            assert products.fp32_precision == before
    finally:
        products.fp32_precision = original


def test_ratios_are_to_the_references_of_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [
        ("reference", 2.0),
        ("reference tf32", 1.0),
        ("jaccard", 3.0),
        ("reference", 4.0),
        ("jaccard", 4.0),
    ]

    def give(job: object, take: Callable[[dict[str, Any]], None], seconds: float) -> None:
        for work, value in records:
            take({"work": work, "seconds": value})

    monkeypatch.setattr(gpu_parts, "measure", give)
    noted: list[dict[str, Any]] = []
    gpu_parts.build_parts(None, miniature=True)[2].measure(noted.append, 60)
    assert [record.get("ratio to reference") for record in noted] == [None, None, 1.5, None, 1.0]
    assert noted[2]["ratio to reference tf32"] == 3.0


def job_of(kind: str, architecture: str) -> gpu_models.ModelJob:
    size = gpu_parts.MINIATURE
    options = {key: value for key, value in size.model.items() if key != "MODEL.HEADS.EMBEDDING_DIM"}
    return gpu_models.ModelJob(
        kind, architecture, "cpu", gpu_parts.pairs_of(options), 8, (8,), seconds=0, steps=2, threads=1
    )


@pytest.mark.parametrize("architecture", ["NPLP", "Baseline"])
def test_models_are_timed(architecture: str) -> None:
    records: list[dict[str, Any]] = []
    gpu_models.run(job_of("speed", architecture), records.append)
    assert [(record["task"], record["precision"]) for record in records] == [
        ("training step", "float32"),
        ("training step", "bfloat16"),
        ("extraction", "float32"),
        ("extraction", "bfloat16"),
    ]
    assert [record.get("failed") for record in records] == [None] * 4
    assert all(record["images_per_second"] > 0 for record in records)


def test_a_case_that_fails_is_a_record_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(gpu_models, "Steps", fail)
    records: list[dict[str, Any]] = []
    gpu_models.run(job_of("speed", "NPLP"), records.append)
    assert [record.get("failed", "")[:30] for record in records[:2]] == ["OutOfMemoryError: CUDA out of "] * 2
    assert all("images_per_second" in record for record in records[2:])


def test_runs_are_compared_to_the_bit() -> None:
    weights = {"a": torch.zeros(2), "b": torch.ones(1)}
    moved = {"a": torch.tensor([0.0, 0.25]), "b": torch.ones(1)}
    found = gpu_models.compared(([1.0, 2.0], weights, 3.0), ([1.0, 2.5], moved, 4.0))
    assert found["equal_losses_until_step"] == 1
    assert found["differing_tensors"] == 1
    assert found["largest_difference"] == 0.25
    records: list[dict[str, Any]] = []
    gpu_models.run(job_of("repeatability", "NPLP"), records.append)
    assert [record["differing_tensors"] for record in records] == [0] * 4


@pytest.mark.long
def test_the_whole_in_miniature(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--miniature", "--data", str(tmp_path / "data")]
    subprocess.run([*command, "--render"], cwd=ROOT, check=True, timeout=300)
    output = tmp_path / "gpu.json"
    done = subprocess.run(
        [*command, "--minutes", "15", "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = parts_in(output)
    assert {name: part["status"] for name, part in found.items()} == dict.fromkeys(found, "done")
    assert len(found) == 11
    here, there = (
        {record["work"]: record["labels"] for record in part["measured"] if "labels" in record}
        for name, part in found.items()
        if name.startswith("pseudo-labels 800x16")
    )
    assert here == there
    assert {"source", "training"} <= set(found["adaptation"]["measured"][0]["seconds"])
    assert "mAP" in found["adaptation"]["measured"][0]["final"]
    assert not any("failed" in record for part in found.values() for record in part["measured"])
