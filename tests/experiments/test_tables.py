"""Means, intervals, differences and tables, by hand."""

import csv
import io
import math
from dataclasses import replace

import pytest

from nplp_experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp_experiments.definitions import Experiment, Setting
from nplp_experiments.figures import by_iteration, by_setting
from nplp_experiments.plan import Cell
from nplp_experiments.rows import LATE, estimate, least_difference, rows_of
from nplp_experiments.tables import as_csv, as_markdown, published

A, B, C = Setting("a", "startup"), Setting("b", "full"), Setting("c", "full", against="b")
THREE = Experiment("three", "Three rows", (A, B, C), ("d2m",), published="")
VALUES = {"a": (40.0, 44.0, 48.0), "b": (44.0, 46.0, 54.0), "c": (45.0, 46.0, 54.0)}


def metrics(value):
    return {"Rank-1": value, "Rank-5": value + 1, "Rank-10": value + 2, "mAP": value / 2}


RECORDS = {
    f"{name}{seed}": {
        "settings": f"a.yml NPLP.STARTUP_ITERATIONS={2 if name == 'a' else 1} after something",
        "results": {"final": metrics(value), "direct_transfer": metrics(20.0)},
        "history": [
            {"iteration": step, **metrics(value - 4 + step), "clusters": 10 * step + seed, "precision": 0.5}
            for step in (1, 2)
        ],
    }
    for name, values in VALUES.items()
    for seed, value in enumerate(values)
}
CELLS = [Cell(row, "d2m", seed, f"{row.label}{seed}", "final") for seed in range(3) for row in (A, B, C)]


@pytest.fixture
def rows():
    return rows_of(THREE, CELLS, RECORDS)


def test_an_interval_is_students():
    found = estimate([40.0, 44.0, 48.0])
    assert found.mean == 44
    # 4.303 is the 97.5% quantile with two degrees of freedom.
    assert found.half == pytest.approx(4.303 * 4 / math.sqrt(3), rel=1e-3)
    assert str(found) == "44.0 ± 9.9"
    assert str(estimate([40.0])) == "40.0"


def test_rows_hold_every_seed_and_differences_of_the_same_seed(rows):
    first, second, third = rows
    assert first.values["Rank-1"] == [40, 44, 48]
    assert (first.base, second.base, third.base) == ("", "a", "b")
    assert first.against["mAP"] == []
    assert second.against["mAP"] == [2, 1, 3]
    assert third.against["mAP"] == [0.5, 0, 0]
    assert second.labels["clusters"] == [20, 21, 22], "those of the last iteration"
    assert second.labels["recall"] == []


def test_a_seed_that_is_missing_is_left_out_of_the_differences():
    _, second, _ = rows_of(THREE, [cell for cell in CELLS if cell.run != "a1"], RECORDS)
    assert second.values["mAP"] == [22, 23, 27]
    assert second.against["mAP"] == [2, 3]


def test_a_row_whose_counterpart_has_not_been_run_is_compared_with_none():
    _, third = rows_of(THREE, [cell for cell in CELLS if cell.row.label != "b"], RECORDS)
    assert third.base == ""
    assert "(b)" not in as_markdown(THREE, DOMAINS["synthetic"], [third])


def test_rows_of_one_name_are_averaged_together():
    named = [replace(row, pooled="both against theirs") for row in (B, C)]
    experiment = replace(THREE, rows=(A, *named), directions=("d2m", "m2d"))
    cells = [
        Cell(row, direction, seed, f"{row.label}{seed}", "final")
        for direction in experiment.directions
        for seed in range(3)
        for row in experiment.rows
    ]
    text = as_markdown(experiment, DOMAINS["synthetic"], rows_of(experiment, cells, RECORDS))
    # 2, 1, 3, 0.5, 0, 0: mean 1.083, standard deviation 1.2, half of the interval 2.571 * 1.2 / sqrt(6).
    assert text.count("- both against theirs: mAP +1.1 ± 1.3, ahead in 4 of 6") == 2
    # Twice: 2.201 * 1.145 / sqrt(12).
    together = text.partition("## All directions together")[2]
    assert "- both against theirs: mAP +1.1 ± 0.7, ahead in 8 of 12" in together


@pytest.mark.parametrize(
    ("direction", "heading"),
    [
        ("d2m", "## SynthPlaza to SynthStation (d2m in the paper)\n"),
        ("unkind", "## SynthPlaza to SynthHarbour\n"),
    ],
)
def test_only_directions_of_the_paper_are_called_so(direction, heading):
    experiment = replace(THREE, directions=(direction,))
    cells = [replace(cell, direction=direction) for cell in CELLS]
    assert heading in as_markdown(experiment, DOMAINS["synthetic"], rows_of(experiment, cells, RECORDS))


def test_every_table_says_where_a_rule_changed_labels_or_a_giant_was_left(rows):
    assert "Rules for degenerate clusterings changed no labels in any of these rows.\n" in as_markdown(
        THREE, DOMAINS["synthetic"], rows
    )
    records = {
        key: {**record, "history": [dict(line) for line in record["history"]]}
        for key, record in RECORDS.items()
    }
    for key in ("a0", "a1", "b0"):
        records[key]["history"][0] |= {"rules": ["giant_cluster"], "acted": ["giant_cluster"]}
    records["c2"]["history"][1]["rules"] = ["giant_cluster", "small_clusters"]
    text = as_markdown(THREE, DOMAINS["synthetic"], rows_of(THREE, CELLS, records))
    assert (
        "changed labels: `giant_cluster` in 2 of 6 iterations of a; `giant_cluster` in 1 of 6 iterations"
        in text
    )
    assert "A giant cluster was trained on as it was in iterations: 1 of 6 of c." in text


def test_nothing_is_averaged_together_without_a_name(rows):
    text = as_markdown(THREE, DOMAINS["synthetic"], rows)
    assert "ahead" not in text
    assert "together" not in text


def test_the_least_difference_is_said_for_each_number_of_seeds():
    cells = [cell for cell in CELLS if (cell.row.label, cell.seed) != ("c", 0)]
    text = as_markdown(THREE, DOMAINS["synthetic"], rows_of(THREE, cells, RECORDS))
    assert "points with 2 seeds and" in text
    assert "points with 3 seeds between" in text


def test_the_least_difference_pools_the_variance_of_all_rows(rows):
    # Differences 2, 1, 3 have variance 1; 0.5, 0, 0 have 1/12: pooled 13/24 with four degrees of freedom.
    least, deviation = least_difference(rows, 3)
    assert deviation == pytest.approx(math.sqrt(13 / 24))
    assert least == pytest.approx(2.776 * math.sqrt(13 / 24 / 3), rel=1e-3)
    assert least_difference(rows[:1], 3) is None


def test_late_evaluations_are_averaged_where_there_are_several():
    def record(*values):
        history = [{"iteration": step, "mAP": value} if value else {} for step, value in enumerate(values, 1)]
        return {"results": {"final": metrics(2 * values[-1])}, "history": history}

    records = {"a0": record(1, 2, 0, 4, 5, 0, 8, 10), "b0": record(1, 2, 0, 4, 5, 0, 9, 13)}
    first, second = rows_of(THREE, [cell for cell in CELLS if cell.run in records], records)
    assert first.values[LATE] == [9]
    assert second.against[LATE] == [2]
    assert "| +3.0 (a)      | +2.0 (a)" in as_markdown(THREE, DOMAINS["synthetic"], [first, second])
    records["a0"] = record(1, 2, 0, 4, 5, 0, 0, 10)
    first, second = rows_of(THREE, [cell for cell in CELLS if cell.run in records], records)
    assert LATE not in first.values
    assert second.against[LATE] == []
    assert "+3.0 (a)" in as_markdown(THREE, DOMAINS["synthetic"], [first, second])


def test_csv_has_a_line_a_metric(rows):
    lines = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert len(lines) == 12
    assert lines[3] == {
        "row": "a",
        "direction": "d2m",
        "metric": "mAP",
        "mean": "22.000",
        "half_of_95_percent": "4.968",
        "seeds": "3",
        "values": "20.000 22.000 24.000",
        "against": "",
        "difference": "",
        "half_of_95_percent_of_difference": "",
    }
    assert (lines[7]["against"], lines[7]["difference"]) == ("a", "2.000")
    assert float(lines[7]["half_of_95_percent_of_difference"]) == pytest.approx(2.484, rel=1e-3)


def test_markdown_stands_beside_the_paper(rows):
    text = as_markdown(THREE, DOMAINS["synthetic"], rows)
    assert "## SynthPlaza to SynthStation (d2m in the paper)" in text
    assert "+2.0 ± 2.5 (a)" in text
    assert "beyond 1.2 points with 3 seeds between rows of one startup stage" in text
    labels = text.split("Pseudo-labels of the last iteration")[1]
    assert next(line for line in labels.splitlines() if line.startswith("| a ")).split("|")[2].strip() == "21"
    table = EXPERIMENTS["table3"]
    cells = [Cell(table.rows[1], "d2m", 0, "a0", "final")]
    text = as_markdown(table, DOMAINS["synthetic"], rows_of(table, cells, RECORDS))
    ours = next(line for line in text.splitlines() if line.startswith("| NPLP "))
    assert "40.0" in ours
    assert "74.3" in ours
    assert any(line.startswith("| MMT ") and "71.2" in line for line in text.splitlines())


def test_a_direct_transfer_has_no_labels_and_is_no_measure_of_noise():
    table = EXPERIMENTS["table3"]
    cells = [
        Cell(row, "d2m", seed, f"b{seed}", row.metrics or "final") for row in table.rows for seed in range(3)
    ]
    transfer, adapted = rows_of(table, cells, RECORDS)
    assert transfer.values["Rank-1"] == [20, 20, 20]
    assert transfer.labels["clusters"] == []
    assert adapted.against["mAP"] == [12, 13, 17]
    assert "from the noise" not in as_markdown(table, DOMAINS["synthetic"], [transfer, adapted])


def test_every_row_is_compared_with_a_row_that_exists():
    for experiment in EXPERIMENTS.values():
        labels = {row.label for row in experiment.rows}
        assert len(labels) == len(experiment.rows)
        for row in experiment.rows:
            assert not row.against or row.against in labels or experiment.name == "fig3", row


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
    assert published("table2").keys() <= {row.label for row in EXPERIMENTS["table2"].rows}


def test_figures_are_drawn(rows):
    plots = by_iteration(THREE, DOMAINS["synthetic"], CELLS, RECORDS)
    assert [plot.name for plot in plots] == ["three_d2m_rank1", "three_d2m_map"]
    assert all(">correcting<" in plot.svg for plot in plots), "the stages are marked"
    alone = by_iteration(THREE, DOMAINS["synthetic"], [cell for cell in CELLS if cell.row is A], RECORDS)
    assert not any(">correcting<" in plot.svg for plot in alone)
    plots += by_setting(THREE, DOMAINS["synthetic"], rows)
    for plot in plots:
        assert plot.svg.startswith("<svg")
        assert plot.png[:4] == b"\x89PNG"


def test_what_is_lost_after_the_best_iteration_is_shown_where_it_is_asked_for():
    def history(values, averaged):
        return [
            {"iteration": step, **metrics(value), "ema/mAP": mean}
            for step, (value, mean) in enumerate(zip(values, averaged, strict=True), 1)
        ]

    records = {
        "a0": {**RECORDS["a0"], "history": history((40, 60, 50), (1, 2, 3))},
        "b0": {
            **RECORDS["b0"],
            "history": history((40, 50, 60), (7, 9, 5)),
            "results": {"final_ema": metrics(10.0), "final": metrics(60.0)},
        },
    }
    cells = [Cell(A, "d2m", 0, "a0", "final"), Cell(B, "d2m", 0, "b0", "final_ema")]
    first, second = rows_of(THREE, cells, records)
    assert (first.lost, second.lost) == ([5], [4])
    text = as_markdown(replace(THREE, lost=True), DOMAINS["synthetic"], [first, second])
    assert [cell.strip() for cell in text.split("\n| a ")[-1].split("\n")[0].split("|")[1:4]] == [
        "5.0",
        "5.0",
        "1",
    ]
    assert "best iteration less" not in as_markdown(THREE, DOMAINS["synthetic"], [first, second])


def test_the_seconds_of_an_iteration_are_shown_where_they_are_asked_for():
    one, two = [{"iteration": 1}], [{"iteration": 1}, {"iteration": 2}]
    records = {
        "a0": {**RECORDS["a0"], "history": two, "stage_seconds": {"training": 9.0}},
        "b0": {**RECORDS["b0"], "history": one, "stage_seconds": {"training": 3.0, "extraction": 1.0}},
    }
    cells = [Cell(A, "d2m", 0, "a0", "final"), Cell(A, "d2m", 1, "b0", "final")]
    (row,) = rows_of(THREE, cells, records)
    assert row.seconds == {"training": 4.0, "extraction": pytest.approx(1 / 3)}
    text = as_markdown(replace(THREE, timed=True), DOMAINS["synthetic"], [row])
    cells_of_row = text.split("\n| a ")[-1].split("\n")[0].split("|")[1:3]
    assert [cell.strip() for cell in cells_of_row] == ["4.0", "0.3"]
    assert "Seconds of an iteration" not in as_markdown(THREE, DOMAINS["synthetic"], [row])
