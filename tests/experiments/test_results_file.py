"""What is kept of runs is what tables need, survives a file, and gives the committed tables again."""

import json

import pytest

from nplp.errors import UserError
from nplp_experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp_experiments.plan import Run, code_digest, configurations_root, plan
from nplp_experiments.results_file import RECORDS, gather_records, load_records, save_records
from nplp_experiments.rows import rows_of
from nplp_experiments.tables import as_csv, as_markdown
from nplp_experiments.writing import write_experiment

COMMITTED = configurations_root() / "docs" / "results" / "reproduce"
LINES = [
    {"iteration": 1, "clusters": 3, "precision": 1 / 3, "nmi": 0.5},
    {"iteration": 2, "clusters": 4, "precision": 2 / 3, "rules": [], "mAP": 12.345678},
]
LINES[0]["rules"] = [
    {"rule": "giant_cluster", "action": "lowered"},
    {"rule": "small_clusters", "action": "repeat"},
]
METRICS = {"Rank-1": 20.0, "Rank-5": 30.0, "Rank-10": 40.0, "mAP": 12.345678, "mINP": 1.0}


@pytest.fixture
def ended(tmp_path):
    """A run that has ended, and the folder of all runs."""
    run = Run("synthetic/d2m/x/seed0/full", "configs/NPLP/quickstart.yml", (), (("SEED", "0"),))
    place = tmp_path / "runs" / run.key
    place.mkdir(parents=True)
    done = {"settings": run.settings, "seconds": 9.5, "commit": "abc", "date": "2026-01-01"}
    done |= {"processor": "P", "cores": 2, "code": code_digest()}
    (place / "done.json").write_text(json.dumps(done))
    (place / "results.json").write_text(json.dumps({"final": METRICS, "seed": 0, "seconds": {"x": 1}}))
    (place / "pseudo_labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return run, tmp_path / "runs"


def test_a_record_keeps_results_history_and_circumstances(ended, tmp_path):
    run, folder = ended
    record = gather_records([run], folder, tmp_path / RECORDS)[run.key]
    assert record["results"] == {"final": {**METRICS, "mAP": 12.3457}}
    assert record["history"] == [
        {"iteration": 1, "clusters": 3, "precision": 0.3333, "rules": ["giant_cluster", "small_clusters"]}
        | {"acted": ["giant_cluster"]},
        {"iteration": 2, "clusters": 4, "precision": 0.6667, "mAP": 12.3457},
    ]
    assert (record["commit"], record["processor"], record["seconds"]) == ("abc", "P", 9.5)


def test_records_come_back_from_their_file_and_stand_in_for_the_runs(ended, tmp_path):
    run, folder = ended
    path = tmp_path / "out" / RECORDS
    records = gather_records([run], folder, path)
    save_records(path, records)
    assert load_records(path) == records
    assert gather_records([run], tmp_path / "elsewhere", path) == records
    others = Run(run.key, run.config, (), (("SEED", "1"),))
    assert gather_records([others], tmp_path / "elsewhere", path) == {}, "of other settings"


def test_runs_of_other_code_count_only_where_asked_for(ended, tmp_path, monkeypatch):
    run, folder = ended
    monkeypatch.setattr("nplp_experiments.running.code_digest", lambda: "another")
    with pytest.raises(UserError, match="was made by other code .*--other-code"):
        gather_records([run], folder, tmp_path / RECORDS)
    assert list(gather_records([run], folder, tmp_path / RECORDS, other_code=True)) == [run.key]


def test_records_of_other_runs_are_kept(ended, tmp_path):
    run, folder = ended
    path = tmp_path / RECORDS
    records = gather_records([run], folder, path)
    save_records(path, {"another": {**records[run.key], "run": "another"}})
    save_records(path, records)
    assert list(load_records(path)) == ["another", run.key]
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("text", ["not json\n", "[1]\n", '{"run": "x"}\n', '"text"\n'])
def test_a_file_of_something_else_is_one_line(tmp_path, text):
    path = tmp_path / RECORDS
    path.write_text(text)
    with pytest.raises(UserError, match="holds no records of runs"):
        load_records(path)


def test_an_experiment_of_which_nothing_has_been_run_writes_nothing(tmp_path):
    _, cells = plan(DOMAINS["synthetic"], [EXPERIMENTS["table1"]], [0])
    out = tmp_path / "out"
    written = write_experiment(
        EXPERIMENTS["table1"], DOMAINS["synthetic"], cells["table1"], {}, tmp_path, out
    )
    assert written == ""
    assert not out.exists()


def test_files_say_what_is_missing_and_how_they_were_made(ended, tmp_path):
    run, folder = ended
    domain, experiment = DOMAINS["synthetic"], EXPERIMENTS["fig5b"]
    _, cells = plan(domain, [experiment], [0])
    record = gather_records([run], folder, tmp_path / RECORDS)[run.key]
    record["results"]["direct_transfer"] = METRICS
    records = {cell.run: record for cell in cells["fig5b"][:3]}
    text = write_experiment(experiment, domain, cells["fig5b"], records, folder, tmp_path / "out")
    assert text == (tmp_path / "out" / "fig5b.md").read_text()
    assert "2 of 5 cells have not been run" in text
    for word in ("tools/reproduce.py fig5b", "2026-01-01", "commit abc", "seeds 0", "2 cores"):
        assert word in text
    assert "](fig5b_d2m.png)" in text
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"fig5b.md", "fig5b.csv", "fig5b_d2m.png", "fig5b_d2m.svg"}


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_committed_tables_are_what_the_committed_records_give(domain, name):
    folder = COMMITTED / domain
    if not (folder / f"{name}.md").is_file():
        pytest.skip(f"no results of {name} on {domain} data are committed")
    experiment = EXPERIMENTS[name]
    runs, cells = plan(DOMAINS[domain], [experiment], None)
    records = gather_records(runs, folder / "no runs here", folder / RECORDS)
    there = [cell for cell in cells[name] if cell.run in records]
    rows = rows_of(experiment, there, records)
    assert (folder / f"{name}.csv").read_text(encoding="utf-8") == as_csv(rows)
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(as_markdown(experiment, DOMAINS[domain], rows))
    assert "have not been run" not in text, "the committed results are whole"


def test_in_no_committed_run_of_the_papers_settings_did_a_rule_change_labels():
    """They are rows of the paper, and rows beside these; the recommended settings have rules on."""
    records = load_records(COMMITTED / "synthetic" / RECORDS)
    assert len(records) > 200
    acted = [key for key, record in records.items() if any("acted" in line for line in record["history"])]
    of_the_paper = [key for key in acted if not {"plus", "nplp-plus"} & {*key.split("/")[2].split("+")}]
    assert of_the_paper == []
