"""The command line of the paper's tables: what it lists, plans, writes and refuses."""

import pytest

from nplp_experiments.catalogue import EXPERIMENTS
from nplp_experiments.results_file import RECORDS


@pytest.fixture
def call(load_tool, call_tool, tmp_path):
    """Return a function that calls the tool in an empty folder."""
    tool = load_tool("reproduce")
    folders = ["--folder", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    return lambda *words: call_tool(tool, [*words, *folders])


def test_list_names_every_experiment(call):
    code, shown = call("--list")
    assert code == 0
    assert [line.split()[0] for line in shown.out.splitlines()] == list(EXPERIMENTS)
    assert "Table II: concatenation against the hyper-network" in shown.out


def test_a_dry_run_says_what_would_be_run(call, tmp_path):
    code, shown = call("table1", "--seeds", "7", "--dry-run")
    lines = shown.out.splitlines()
    assert code == 0
    assert lines[0] == "missing  synthetic/d2m/pap1/seed7/source"
    assert lines[-1] == "0 of 32 runs have ended"
    assert not list(tmp_path.glob("runs/*"))


def test_without_running_it_says_that_nothing_has_been_run(call, tmp_path):
    code, shown = call("fig3", "fig4", "--no-run")
    assert (code, shown.out) == (0, "fig3: nothing has been run\nfig4: nothing has been run\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no experiment was named: use all or some of table1,"),
        (("table9",), "unknown experiment 'table9': use all or some of table1,"),
        (("table1", "--jobs", "0"), "--jobs must be at least 1, got 0"),
        (("table1", "--threads", "-1"), "--threads must be at least 1, got -1"),
        (("table1", "--seeds", "-1"), "--seeds must be at least 0, got -1"),
        (("table1", "--seeds", "one"), "invalid int value: 'one'"),
        (("table1", "--domain", "drawn"), "invalid choice: 'drawn'"),
    ],
)
def test_a_mistake_is_one_line(call, words, message):
    code, shown = call(*words)
    assert code == 2
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def test_records_of_something_else_are_one_line(call, tmp_path):
    (tmp_path / "out" / "synthetic").mkdir(parents=True)
    (tmp_path / "out" / "synthetic" / RECORDS).write_text("no records\n")
    code, shown = call("table1", "--no-run")
    assert code == 2
    assert "holds no records of runs" in shown.err
    assert len(shown.err.splitlines()) == 1
