"""Runs are shared where they are the same, and every cell of every table has one."""

from pathlib import Path

import pytest
import yaml

from nplp.experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp.experiments.definitions import SCOPES
from nplp.experiments.plan import ROOT, plan

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
        assert len(cells[name]) == len(experiment.rows) * experiment.seeds * len(there)
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
    for label in ("dissolved clusters kept", "assessment by Euclidean distance", "beta 0.8"):
        assert found[label].branch == shared
    for label in ("Euclidean distance", "literal loss (10)", "camera centring"):
        assert found[label].branch != shared
        assert found[label].source == found["default"].source
    options = dict(found["beta 0.8"].options)
    assert options["NPLP.BETA"] == "0.8"
    assert "NPLP.BETA" not in dict(by_key[shared].options)


def test_alpha_is_a_multiple_of_the_configurations():
    runs, cells = planned("fig5a")
    by_key = {run.key: run for run in runs}
    alphas = {cell.row.label: dict(by_key[cell.run].options).get("NPLP.ALPHA") for cell in cells["fig5a"]}
    assert alphas["alpha x 2"] == "0.012"
    assert alphas["alpha x 1"] is None


def test_synthetic_and_real_pairs_have_the_papers_directions():
    assert set(DOMAINS["real"].directions) == {"d2m", "m2d", "m2msmt", "d2msmt"}
    for domain in DOMAINS.values():
        assert all(Path(ROOT / path).is_file() for path in domain.directions.values())
