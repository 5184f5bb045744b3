"""Runs are shared where they are the same, and every cell of every table has one."""

import argparse
from pathlib import Path

import pytest
import yaml

from nplp.config.dotted import value_at
from nplp.engine.setup import load_config
from nplp.errors import UserError
from nplp_experiments import plan as plan_module
from nplp_experiments import running
from nplp_experiments.__main__ import domain_of
from nplp_experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp_experiments.definitions import FULL, PAPER, SCOPES, SOURCE, STARTUP, Experiment, Setting
from nplp_experiments.plan import Run, _digest, code_digest, configurations_root, plan, shared_stage

ROOT = configurations_root()
ABLATIONS = ROOT / "configs" / "NPLP" / "ablations"


def planned(*names, seeds=(0,), domain="synthetic"):
    return plan(DOMAINS[domain], [EXPERIMENTS[name] for name in names], list(seeds))


def test_every_ablation_is_a_file_with_a_scope_and_says_only_what_differs():
    assert {path.stem for path in ABLATIONS.glob("*.yml")} == set(SCOPES)
    for path in ABLATIONS.glob("*.yml"):
        content = yaml.safe_load(path.read_text())
        assert "_BASE_" not in content
        assert path.read_text().startswith("# ")


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_row_is_planned_after_what_it_needs(domain):
    runs, cells = plan(DOMAINS[domain], list(EXPERIMENTS.values()), None)
    seen = set()
    for run in runs:
        assert set(run.needs) <= seen, run.key
        assert run.key not in seen
        seen.add(run.key)
        assert all((ROOT / path).is_file() for path in (run.config, *run.overlays))
    for name, experiment in EXPERIMENTS.items():
        there = [direction for direction in experiment.directions if direction in DOMAINS[domain].directions]
        seeds = sum(row.seeds or experiment.seeds for row in experiment.rows)
        assert len(cells[name]) == seeds * len(there)
        assert all(cell.run in seen for cell in cells[name])


def test_stages_of_a_model_share_its_source_and_its_startup():
    runs, cells = planned("table1")
    by_key = {run.key: run for run in runs}
    (alone,) = (
        cell.run for cell in cells["table1"] if (cell.row.label, cell.direction) == ("PAP-2 w/ SS", "d2m")
    )
    (full,) = (
        cell.run for cell in cells["table1"] if (cell.row.label, cell.direction) == ("PAP-2 NPLP", "d2m")
    )
    assert by_key[alone].branch == by_key[full].branch
    assert by_key[alone].source == by_key[full].source
    assert len(runs) == 2 * 4 * 4


def test_the_configurations_own_value_is_no_other_run():
    _, table = planned("table1")
    plain = {cell.run for cell in table["table1"] if cell.direction == "d2m"}
    _, figures = planned("fig5a", "fig5b", "fig3")
    assert next(cell.run for cell in figures["fig5b"] if cell.row.label == "beta 0.5") in plain
    assert next(cell.run for cell in figures["fig5a"] if cell.row.label == "alpha x 1") in plain
    assert {cell.run for cell in figures["fig3"] if cell.direction == "d2m"} <= plain


def test_what_changes_the_correction_alone_branches_from_the_plain_startup():
    runs, cells = planned("readings", "fig5b")
    by_key = {run.key: run for run in runs}
    found = {cell.row.label: by_key[cell.run] for name in cells for cell in cells[name]}
    shared = found["default"].branch
    for label in ("dissolved clusters kept", "assessment by Euclidean distance", "beta 0.9"):
        assert found[label].branch == shared
    for label in ("Euclidean distance", "literal loss (10)", "camera centring"):
        assert found[label].branch == "", "in one piece"
        assert found[label].source == found["default"].source
    options = dict(found["beta 0.9"].options)
    assert options["NPLP.BETA"] == "0.9"
    assert "NPLP.BETA" not in dict(by_key[shared].options)


def test_a_row_in_one_piece_shares_its_startup_with_none():
    runs, _ = plan(DOMAINS["synthetic"], list(EXPERIMENTS.values()), [0])
    keys = {run.key for run in runs}
    for run in runs:
        stage = run.key.rpartition("/")[2]
        if run.source and not run.branch and stage in ("alone", "full"):
            assert run.key.replace(f"/{stage}", "/startup") not in keys, run.key


def test_rows_are_compared_by_what_they_share():
    rows = {row.label: row for name in ("table1", "readings", "correction") for row in EXPERIMENTS[name].rows}
    for first, second, expected in (
        ("PAP-1 w/ SS", "PAP-2 w/ SS", ""),
        ("PAP-2 w/ SS", "PAP-2 NPLP", STARTUP),
        ("default", "dissolved clusters kept", STARTUP),
        ("default", "literal loss (10)", SOURCE),
        ("startup only", "beta 0.8, the worst 30%", STARTUP),
        ("startup only", "startup only, camera centring", SOURCE),
    ):
        assert shared_stage(rows[first], rows[second]) == expected, (first, second)
        assert shared_stage(rows[second], rows[first]) == expected


def test_alpha_is_a_multiple_of_the_configurations():
    runs, cells = planned("fig5a")
    by_key = {run.key: run for run in runs}
    alphas = {cell.row.label: dict(by_key[cell.run].options).get("NPLP.ALPHA") for cell in cells["fig5a"]}
    assert alphas["alpha x 2"] == "0.012"
    assert alphas["alpha x 1"] is None


def test_a_wider_embedding_is_another_source_model():
    runs, cells = planned("table2")
    by_key = {run.key: run for run in runs}
    found = {cell.row.label: by_key[cell.run] for cell in cells["table2"] if cell.direction == "d2m"}
    wide = found["PAP-2 w/HN, f_e x 3"]
    assert dict(wide.options)["MODEL.HEADS.EMBEDDING_DIM"] == "384"
    assert dict(by_key[wide.source].options)["MODEL.HEADS.EMBEDDING_DIM"] == "384"
    assert wide.source != found["PAP-2 w/HN"].source
    assert shared_stage(*(row for row in EXPERIMENTS["table2"].rows if "HN" in row.label)) == ""


def test_seeds_that_had_no_part_in_a_choice():
    _, chosen = plan(DOMAINS["synthetic"], [EXPERIMENTS["correction"]], None)
    _, again = plan(DOMAINS["synthetic"], [EXPERIMENTS["correction_again"]], None)
    first, second = ({cell.seed for cell in cells} for cells in (*chosen.values(), *again.values()))
    assert first == {0, 1, 2}
    assert second == {3, 4, 5, 6, 7}


def test_a_target_shares_the_source_model_of_another_with_the_same_source():
    runs, cells = planned("table3", "table4")
    by_key = {run.key: run for run in runs}
    final = {cell.direction: by_key[cell.run] for name in cells for cell in cells[name]}
    assert final["m2msmt"].source == final["m2d"].source
    assert final["d2msmt"].source == final["d2m"].source
    assert final["m2msmt"].config.endswith("s2c.yml")


@pytest.mark.parametrize("domain", DOMAINS)
def test_shared_source_models_are_of_the_same_data_set(domain):
    domain = DOMAINS[domain]
    for direction, other in domain.sources.items():
        first, second = (
            load_config(argparse.Namespace(config_file=str(ROOT / domain.directions[each]), opts=[]))
            for each in (direction, other)
        )
        for section in ("NPLP.SOURCE", "MODEL", "INPUT"):
            of = [value_at(cfg, section) for cfg in (first, second)]
            assert of[0] == of[1], (direction, section)


def test_more_iterations_are_other_runs_of_the_same_source():
    runs, cells = planned("correction", "table1")
    by_key = {run.key: run for run in runs}
    alone = {cell.row.label: by_key[cell.run] for cell in cells["correction"]}
    options = dict(alone["beta 0.5"].options)
    assert (options["NPLP.ITERATIONS"], options["NPLP.STARTUP_ITERATIONS"]) == ("30", "15")
    startup = dict(by_key[alone["beta 0.5"].branch].options)
    assert (startup["NPLP.ITERATIONS"], startup["NPLP.STARTUP_ITERATIONS"]) == ("15", "15")
    plain = [run for label, run in alone.items() if "centring" not in label]
    assert len({run.branch for run in plain}) == 1
    assert alone["startup only"].source in {run.source for run in runs if "iterations30" not in run.key}


def test_the_unkind_target_shares_the_source_model_of_the_kind_one():
    runs, cells = planned("unkind", "table3")
    by_key = {run.key: run for run in runs}
    (unkind,) = (by_key[cell.run] for cell in cells["unkind"] if cell.row.label == "NPLP")
    (kind,) = (
        by_key[cell.run] for cell in cells["table3"] if cell.row.label == "NPLP" and cell.direction == "d2m"
    )
    assert unkind.source == kind.source
    assert unkind.config.endswith("p2h.yml")
    assert cells["unkind"][0].direction not in PAPER
    assert not planned("unkind", domain="real")[0]


def test_a_traced_row_is_run_in_one_piece_with_its_page():
    runs, cells = planned("fig4", "table1")
    (cell,) = cells["fig4"]
    by_key = {run.key: run for run in runs}
    assert by_key[cell.run].branch == ""
    pages = {run.key for run in runs if dict(run.options)["NPLP.REPORT"] == "True"}
    assert pages == {cell.run}


def test_settings_change_with_what_files_say_but_not_with_comments(tmp_path, monkeypatch):
    monkeypatch.setattr("nplp_experiments.plan.configurations_root", lambda: tmp_path)
    seen = set()
    for number, text in enumerate(("A: 1", "A: 1  # one", "A: 2")):
        (tmp_path / f"base{number}.yml").write_text(text)
        # The same name, so that the content alone can differ.
        (tmp_path / "leaf.yml").write_text(f"_BASE_: base{number}.yml\nB: 3")
        _digest.cache_clear()
        seen.add(Run("key", "leaf.yml", (), ()).settings)
    _digest.cache_clear()
    assert len(seen) == 2


def test_synthetic_and_real_pairs_have_the_papers_directions():
    for name, domain in DOMAINS.items():
        assert set(domain.directions) == set(domain.titles)
        assert name == "pku" or set(domain.directions) >= set(PAPER)
        assert all(Path(ROOT / path).is_file() for path in domain.directions.values())


def test_the_codes_digits_change_with_statements_that_decide_results(tmp_path, monkeypatch):
    for package in ("nplp/losses", "nplp/report", "nplp/export", "nplp_commands", "nplp_synthetic"):
        (tmp_path / package).mkdir(parents=True)
    monkeypatch.setattr(plan_module, "PACKAGES", tmp_path)

    def digits(path, text):
        (tmp_path / path).write_text(text)
        code_digest.cache_clear()
        return code_digest()

    try:
        first = digits("nplp/losses/a.py", '"""Says."""\nx = 1\n')
        assert digits("nplp/losses/a.py", '"""Says more."""\n\n# why\nx = (1)\n') == first
        for package in ("nplp/report", "nplp/export", "nplp_commands"):
            assert digits(f"{package}/page.py", "y = 2\n") == first
        second = digits("nplp_synthetic/render.py", "z = 3\n")
        assert second != first
        assert digits("nplp/losses/a.py", "x = 2\n") not in (first, second)
    finally:
        code_digest.cache_clear()


def test_configurations_are_those_of_the_checkout_or_of_the_current_folder(tmp_path, monkeypatch):
    assert configurations_root() == Path(__file__).parents[2]
    monkeypatch.setattr(plan_module, "PACKAGES", tmp_path / "lib" / "python" / "site-packages")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="configurations of the experiments are missing.*in a checkout"):
        configurations_root()
    (tmp_path / "configs" / "NPLP").mkdir(parents=True)
    assert configurations_root() == tmp_path


def test_a_domain_with_given_weights_trains_no_source_and_splits_by_the_seed():
    experiment = Experiment(
        "some", "?", (Setting("both", FULL), Setting("transfer", SOURCE)), ("pku",), seeds=2
    )
    runs, cells = plan(DOMAINS["pku"], [experiment], None)
    assert len(cells["some"]) == 4
    for run in runs:
        options = dict(run.options)
        assert not run.source
        assert options["SEED"] == options["DATASETS.PKU.SPLIT"]
    assert {dict(run.options)["SEED"] for run in runs} == {"0", "1"}
    assert {run.branch for run in runs if run.key.endswith("full")} <= {run.key for run in runs}


def test_an_experiment_runs_where_it_can():
    here = Experiment("some", "?", (), ("pku",))
    assert domain_of(here, "synthetic") == domain_of(here, "pku") == "pku"
    assert [domain_of(EXPERIMENTS["table1"], name) for name in DOMAINS] == ["synthetic", "real", "synthetic"]


def test_an_installed_package_brings_its_configurations_and_works_in_the_current_folder(
    tmp_path, monkeypatch
):
    site = tmp_path / "site-packages"
    (site / "nplp_commands" / "configs" / "NPLP").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for module in (plan_module, running):
        monkeypatch.setattr(module, "PACKAGES", site)
    assert configurations_root() == site / "nplp_commands"
    assert running._working_folder() == tmp_path / "here"
    monkeypatch.undo()
    assert running._working_folder() == ROOT
