"""The page that advises on methods says what was measured."""

import which_method as module
from nplp_experiments.rows import Row
from page_part import END


def test_the_page_holds_the_table_of_the_records():
    rows, where = module.measured(module.RESULTS)
    assert {row.direction for row in rows} == module.TASKS.keys()
    between = module.PAGE.read_text(encoding="utf-8").split(module.BEGIN)[1].split(END)[0]
    assert between.strip().startswith(module.table(rows))
    assert where in between


def row(label, direction, value, seconds):
    return Row(label, direction, {"mAP": [value]}, {}, "", "", {}, "", lost=[0.5], seconds=seconds)


def test_times_are_relative_and_a_task_that_was_not_run_stays_empty():
    rows = [
        row("direct transfer", "p2s", 20.0, {}),
        row("memory", "p2s", 50.0, {"training": 2.0, "extraction": 2.0}),
        row("memory", "s2p", 40.0, {"training": 10.0}),
        row("mmt", "p2s", 30.0, {"training": 8.0}),
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in module.table(rows).splitlines()]
    assert lines[0] == [
        *("mAP", "plaza to station", "station to plaza"),
        *("most lost after the best", "time, `memory` = 1"),
    ]
    assert lines[2:] == [
        ["direct transfer", "20.0", "", "0.5", ""],
        ["`memory`", "50.0", "40.0", "0.5", "1.0"],
        ["`mmt`", "30.0", "", "0.5", "2.0"],
    ]
