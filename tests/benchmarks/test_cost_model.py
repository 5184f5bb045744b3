"""The cost model: constants that are known come back, and files that cannot be used are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cost_model

COUNTS = [10_000, 30_000, 120_000]


@pytest.mark.parametrize(("a", "b"), [(4e-9, 2e-5), (4e-9, 0.0), (0.0, 3e-5)])
def test_constants_come_back(a: float, b: float) -> None:
    found = cost_model.fitted(COUNTS, [a * n**2 + b * n for n in COUNTS])
    assert found == pytest.approx((a, b), rel=1e-6, abs=1e-13)


def test_no_constant_is_negative() -> None:
    # Faster than N and slower than N squared.
    assert min(cost_model.fitted(COUNTS, [1.0, 20.0, 800.0])) >= 0
    assert min(cost_model.fitted(COUNTS, [1.0, 2.0, 4.0])) >= 0


def figures(*sizes: tuple[int, int]) -> dict[str, object]:
    seconds = {
        n: {"reference": [1e-9 * n**2] * 3, "jaccard": [9.0, 1e-9 * n**2 + 1e-5 * n, 0.0]} for n, _ in sizes
    }
    return {"clustered": [{"count": n, "dimension": d, "seconds": seconds[n]} for n, d in sizes]}


def test_table_extrapolates_by_the_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(figures((10_000, 64), (30_000, 64))))
    assert cost_model.main([str(path)]) == 0
    reference, jaccard = capsys.readouterr().out.splitlines()[2:]
    assert "1,000" in reference
    assert "6.4e+10" in reference
    assert "1,010" in jaccard


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no output of"),
        ("[1, 2]", "no output of"),
        ("{", "no output of"),
        (json.dumps(figures((10, 4))), "two sizes or more"),
        (json.dumps(figures((10, 4), (20, 8))), "two sizes or more"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    path = tmp_path / "figures.json"
    if content is not None:
        path.write_text(content)
    assert cost_model.main([str(path)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert not shown.out
