"""The page of own cameras says what was measured."""

import json
from pathlib import Path

import adaptations as module
from page_part import END

ROOT = Path(__file__).parents[2]


def test_the_page_holds_the_table_of_the_figures():
    kept = json.loads((ROOT / "docs" / "results" / "adaptations.json").read_text())
    page = (ROOT / "docs" / "adapt.md").read_text()
    between = page.split(module.BEGIN)[1].split(END)[0].strip()
    assert between == module.page_table(kept).strip()
    assert "±" in between


def test_the_table_has_means_over_the_splits():
    row = {stage: {"Rank-1": 50.0, "mAP": 40.0} for stage in module.STAGES}
    assert "40.0 ± 0.0" in module.page_table({module.DEFAULTS: {"splits": [row, row]}})
