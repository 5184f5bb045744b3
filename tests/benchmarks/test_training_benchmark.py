"""The page on faster steps says what was measured."""

import json

import training as module
from page_part import END


def test_the_page_holds_the_table_of_the_figures():
    kept = json.loads(module.MODES_FILE.read_text(encoding="utf-8"))
    between = module.PAGE.read_text(encoding="utf-8").split(module.BEGIN)[1].split(END)[0]
    assert between.strip() == module.modes_table(kept)


def test_a_mode_that_was_not_measured_of_a_network_stays_empty():
    where = {"processor": "P", "threads": 1, "date": "2026-01-01"}
    plain, fast = ({"computing_ms": 200.0, "plain_over_this": ratio} for ratio in (1.0, 1.5))
    kept = {
        "one": {**where, "modes": {"plain": plain, "channels_last": fast}},
        "two": {**where, "modes": {"plain": plain}},
    }
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in module.modes_table(kept).splitlines()
    ]
    assert lines[0] == ["network", "plain", "channels_last", "where"]
    assert lines[2:] == [
        ["one", "200 ms", "1.50 x", "P, 1 thread(s), 2026-01-01"],
        ["two", "200 ms", "", "P, 1 thread(s), 2026-01-01"],
    ]
