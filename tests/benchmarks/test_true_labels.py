"""The page on methods says what they learn from true labels."""

import json
from pathlib import Path

import true_labels as module
from page_part import END

ROOT = Path(__file__).parents[2]


def test_the_page_holds_the_table_of_the_figures():
    figures = json.loads((ROOT / "docs" / "results" / "true_labels.json").read_text(encoding="utf-8"))
    between = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").split(module.BEGIN)[1].split(END)[0]
    assert between.strip() == module.page_table(figures)


def test_every_method_ends_far_above_the_direct_transfer():
    figures = json.loads((ROOT / "docs" / "results" / "true_labels.json").read_text(encoding="utf-8"))
    assert {*figures["methods"]} == {*module.NAMES}
    for name, found in figures["methods"].items():
        assert found["final"]["mAP"] > 1.5 * found["direct_transfer"]["mAP"], name
