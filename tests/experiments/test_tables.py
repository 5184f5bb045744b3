"""Means, intervals and tables, by hand."""

import csv
import io
import math

import pytest

from nplp.experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp.experiments.definitions import Experiment, Setting
from nplp.experiments.figures import by_iteration, by_setting
from nplp.experiments.plan import Cell
from nplp.experiments.tables import as_csv, as_markdown, estimate, published, rows_of

A, B = Setting("a", "startup"), Setting("b", "full")
TWO = Experiment("two", "Two rows", (A, B), ("d2m",), published="")


def metrics(value):
    return {"Rank-1": value, "Rank-5": value + 1, "Rank-10": value + 2, "mAP": value / 2}


RESULTS = {
    f"{name}{seed}": {
        "final": metrics(value),
        "direct_transfer": metrics(20.0),
        "history": [{"iteration": step, **metrics(value - 4 + step)} for step in (1, 2)],
    }
    for name, values in {"a": (40.0, 44.0, 48.0), "b": (44.0, 46.0, 54.0)}.items()
    for seed, value in enumerate(values)
}
CELLS = [Cell(row, "d2m", seed, f"{row.label}{seed}", "final") for seed in range(3) for row in (A, B)]


def test_an_interval_is_students():
    found = estimate([40.0, 44.0, 48.0])
    assert found.mean == 44
    # 4.303 is the 97.5% quantile with two degrees of freedom.
    assert found.half == pytest.approx(4.303 * 4 / math.sqrt(3), rel=1e-3)
    assert str(found) == "44.0 ± 9.9"
    assert str(estimate([40.0])) == "40.0"


def test_rows_hold_every_seed_and_differences_of_the_same_seed():
    first, second = rows_of(CELLS, RESULTS.__getitem__)
    assert first.values["Rank-1"] == [40, 44, 48]
    assert first.against["mAP"] == [0, 0, 0]
    assert second.against["mAP"] == [2, 1, 3]


def test_a_seed_that_is_missing_is_left_out_of_the_differences():
    _, second = rows_of([cell for cell in CELLS if cell.run != "a1"], RESULTS.__getitem__)
    assert second.values["mAP"] == [22, 23, 27]
    assert second.against["mAP"] == [2, 3]


def test_csv_has_a_line_a_metric():
    lines = list(csv.DictReader(io.StringIO(as_csv(rows_of(CELLS, RESULTS.__getitem__)))))
    assert len(lines) == 8
    assert lines[3] == {
        "row": "a",
        "direction": "d2m",
        "metric": "mAP",
        "mean": "22.000",
        "half_of_95_percent": "4.968",
        "seeds": "3",
        "values": "20.000 22.000 24.000",
    }


def test_markdown_stands_beside_the_paper():
    text = as_markdown(TWO, DOMAINS["synthetic"], rows_of(CELLS, RESULTS.__getitem__))
    assert "### SynthPlaza to SynthStation (d2m in the paper)" in text
    assert "+2.0 ± 2.5" in text
    table = EXPERIMENTS["table3"]
    cells = [Cell(table.rows[0], "d2m", 0, "a0", "final")]
    text = as_markdown(table, DOMAINS["synthetic"], rows_of(cells, RESULTS.__getitem__))
    ours = next(line for line in text.splitlines() if line.startswith("| NPLP "))
    assert "40.0" in ours
    assert "74.3" in ours
    assert any(line.startswith("| MMT ") and "71.2" in line for line in text.splitlines())


def test_published_numbers_are_whole():
    for table in ("table1", "table2", "table3", "table4"):
        for row, directions in published(table).items():
            for direction, values in directions.items():
                assert len(values) == 4, (table, row, direction)
                known = [value for value in values[:3] if value is not None]
                assert known == sorted(known), (table, row, direction)
                assert all(0 < value < 100 for value in known)
    methods = set(published("table3")) | set(published("table4"))
    assert {"LOMO", "BOW", "TJ-AIDL", "CamStyle", "PAUL", "ECN", "UDA", "PAST", "SSG"} <= methods
    assert {"MMCL", "AD-Cluster", "MMT", "PTGAN", "NPLP"} <= methods
    assert published("table1").keys() == {row.label for row in EXPERIMENTS["table1"].rows}
    assert published("table2").keys() == {row.label for row in EXPERIMENTS["table2"].rows}


def test_figures_are_drawn():
    plots = by_iteration(TWO, DOMAINS["synthetic"], CELLS, RESULTS.__getitem__)
    assert [plot.name for plot in plots] == ["two_d2m_rank1", "two_d2m_map"]
    plots += by_setting(TWO, DOMAINS["synthetic"], rows_of(CELLS, RESULTS.__getitem__))
    for plot in plots:
        assert plot.svg.startswith("<svg")
        assert plot.png[:4] == b"\x89PNG"
