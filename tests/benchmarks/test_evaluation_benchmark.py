"""The benchmark of the evaluation: small works agree, and tables say what was not run."""

import argparse
import json
import sys

import pytest
from tqdm import tqdm

import evaluation
from child_process import MeasurementError
from page_part import END


@pytest.mark.parametrize("work", [evaluation.OURS, evaluation.RERANKED, evaluation.PYTHON])
def test_a_work_reports_its_figures(monkeypatch, work):
    monkeypatch.setattr(evaluation, "WARM", (5, 90))
    records = []
    job = {
        "work": work,
        "queries": 20,
        "gallery": 150,
        "dimension": 16,
        "seed": 0,
        "threads": 1,
        "cython": "",
    }
    evaluation._run(job, records.append)
    (record,) = records
    assert record["work"] == work
    assert record["seconds"] > 0
    assert 0 < record["mAP"] <= 1
    if work == evaluation.PYTHON:
        evaluation._run({**job, "work": evaluation.OURS}, records.append)
        assert records[1]["mAP"] == pytest.approx(record["mAP"])


def figures():
    record = {"host_mb": 10.0, "mAP": 0.5}
    return {
        "queries": 1000,
        "gallery": 5000,
        "records": {
            evaluation.CYTHON: [{**record, "seconds": 2.0}, {**record, "seconds": 4.0}],
            evaluation.OURS: [{**record, "seconds": 1.0}, {**record, "seconds": 1.0}],
        },
        "not_run": {evaluation.TOOLBOX_RERANKED: "needs 100 GB"},
    }


def test_ratios_are_within_a_round_and_what_was_not_run_says_why():
    lines = evaluation.table([figures()]).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    # 1 / 2 and 1 / 4.
    assert rows[1][2:5] == ["1.0", "0.38", "10"]
    assert rows[2][1:5] == [evaluation.TOOLBOX_RERANKED, "-", "-", "needs 100 GB"]


def test_what_does_not_fit_is_not_run(monkeypatch):
    monkeypatch.setattr(evaluation, "available_memory", lambda: 10**9)
    args = argparse.Namespace(no_cython="no compiler")
    assert evaluation._reason(args, evaluation.OURS, 11_659, 82_161, "folder") == ""
    assert evaluation._reason(args, evaluation.CYTHON, 11_659, 82_161, "folder") == "needs 29 GB"
    assert evaluation._reason(args, evaluation.CYTHON, 100, 100, "") == "no compiler"


def test_a_work_that_takes_too_long_is_stopped_and_the_table_says_so(monkeypatch):
    asked = []

    def stopped(command, on_record, environment, seconds):
        asked.append(seconds)
        raise MeasurementError(f"stopped after {seconds:.0f} s")

    monkeypatch.setattr(evaluation, "read_records", stopped)
    args = evaluation.parsed(["--works", evaluation.OURS, "--repeats", "2", "--minutes", "3"])
    args.no_cython = ""
    found = evaluation.measured(args, 20, 150, "folder", tqdm(disable=True))
    assert asked == [180]
    assert "stopped after 180 s" in evaluation.table([found])


def test_the_table_is_written_between_the_marks(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{evaluation.BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(evaluation, "PAGE", page)
    monkeypatch.setattr(evaluation, "FIGURES", tmp_path / "figures.json")
    content = {"processor": "P", "threads": 2, "date": "2026-01-01", "sizes": [figures()]}
    for _ in range(2):
        evaluation.write(content, "| new |")
        text = page.read_text(encoding="utf-8")
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert text.count("| new |") == 1
        assert "old" not in text
    assert json.loads((tmp_path / "figures.json").read_text())["threads"] == 2


@pytest.mark.parametrize("text", ["3368", "0x5", "5x0", "axb"])
def test_a_wrong_size_is_one_line(capsys, text):
    with pytest.raises(SystemExit):
        evaluation.parsed(["--sizes", text])
    assert "must be like 3368x15913" in capsys.readouterr().err.replace("\n", " ")


def test_a_compiler_that_fails_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation.sys, "executable", "/bin/false" if sys.platform == "linux" else "false")
    assert evaluation.compile_cython(tmp_path) == "it said nothing"
