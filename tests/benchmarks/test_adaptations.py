"""The page of own cameras says what was measured."""

import json
from pathlib import Path

import adaptations as module

ROOT = Path(__file__).parents[2]


def test_the_page_holds_the_table_of_the_figures():
    kept = json.loads((ROOT / "docs" / "results" / "adaptations.json").read_text())
    page = (ROOT / "docs" / "adapt.md").read_text()
    between = page.split(module.BEGIN)[1].split(module.END)[0].strip()
    assert between == module.page_table(kept).strip()
    assert "±" in between


def test_a_page_is_written_between_its_marks_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{module.BEGIN}\nold\n{module.END}\nafter\n")
    row = {stage: {"Rank-1": 50.0, "mAP": 40.0} for stage in module.STAGES}
    module.write_page(page, {module.DEFAULTS: {"splits": [row, row]}})
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "40.0 ± 0.0" in text
