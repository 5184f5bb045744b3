"""The measures of the house, on a toy tree whose figures are counted by hand."""

import json
from pathlib import Path

import pytest

import house
import house_reading
from nplp.errors import UserError

FILES = {
    "projects/NPLP/nplp/__init__.py": '"""A toy."""\n',
    "projects/NPLP/nplp/clustering/__init__.py": "from nplp.clustering.epsilon import startup_epsilon\n",
    "projects/NPLP/nplp/clustering/epsilon.py": '''
from nplp.clustering.distances import Distances


def startup_epsilon(distances: Distances, alpha: float) -> float:
    """Eq. 4."""
    return halved(distances.smallest(alpha))


def halved(value):
    return value / 2
''',
    "projects/NPLP/nplp/clustering/distances.py": """
from typing import Protocol


class Distances(Protocol):
    def smallest(self, alpha: float) -> float: ...
""",
    "projects/NPLP/nplp/clustering/plain.py": """
from nplp.clustering.sweep import passes


class PlainDistances:
    def smallest(self, alpha: float) -> float:
        return passes.over(alpha)

    def unused(self) -> None:
        from nplp.clustering import other

        other.never()
""",
    "projects/NPLP/nplp/clustering/other.py": "def never() -> None: ...\n",
    "projects/NPLP/nplp/clustering/sweep/__init__.py": "",
    "projects/NPLP/nplp/clustering/sweep/passes.py": (
        "from .deep import down\n\n\ndef over(alpha: float) -> float:\n    return down(alpha)\n"
    ),
    "projects/NPLP/nplp/clustering/sweep/deep.py": "def down(alpha: float) -> float:\n    return alpha\n",
    "projects/NPLP/nplp/engine/__init__.py": "",
    "projects/NPLP/nplp/engine/pseudo_labels.py": """
from nplp import report
from nplp.clustering import startup_epsilon
from nplp.engine.records import Record


class PseudoLabelHook:
    def __init__(self, record: Record) -> None:
        self._record = record

    def _begin_iteration(self, iteration: int) -> None:
        self._record.note(startup_epsilon(None, 1.0))
        report.page.show()
""",
    "projects/NPLP/nplp/engine/records.py": """
class Record:
    def note(self, value: float) -> None: ...
""",
    "projects/NPLP/nplp/report/__init__.py": "from nplp.report import page\n",
    "projects/NPLP/nplp/report/page.py": "import nplp.engine.records\n\n\ndef show() -> None: ...\n",
    "projects/NPLP/nplp/losses/__init__.py": 'from .triplet import TripletLoss\n__all__ = ["TripletLoss"]\n',
    "projects/NPLP/nplp/losses/triplet.py": "class TripletLoss: ...\n",
    "projects/NPLP/nplp/modeling.py": '"""Has a triplet loss."""\n# Triplet.\ntriplet = "the triplet loss"\n',
    "projects/NPLP/nplp_synthetic/__init__.py": "x = 1\n",
    "tests/engine/test_it.py": "a = 1\n" * 30,
    "tests/synthetic/test_it.py": "a = 1\n" * 3,
    "tests/benchmarks/test_it.py": "a = 1\n" * 99,
}


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "projects" / "NPLP"


def test_a_cycle_is_found_and_named(tree):
    cycle = "nplp.engine -> nplp.report -> nplp.engine"
    assert house.measure(tree)["cycles"] == [cycle]
    (tree / "nplp/report/page.py").write_text("def show() -> None: ...\n")
    assert house.measure(tree)["cycles"] == []


def test_an_equation_is_followed_through_protocols_to_the_sweeps_interface(tree):
    folder = "nplp/clustering"
    names = ["distances", "epsilon", "plain", "sweep/__init__"]
    assert house.measure(tree)["eq4"] == [f"{folder}/{name}.py" for name in names]


def test_an_iteration_ends_at_other_packages(tree):
    found = house.measure(tree)
    assert found["iteration"] == ["nplp/engine/pseudo_labels.py", "nplp/engine/records.py"]
    # The protocol's class is entered with its machinery; so are the page and the equation.
    assert found["around_an_iteration"] == 6


def test_code_that_names_a_loss_counts_and_prose_does_not(tree):
    found = house.measure(tree)
    assert found["a_loss"] == ["nplp/losses/__init__.py", "nplp/modeling.py"]
    assert found["a_loss_lines"] == 3


def test_figures_are_those_counted_by_hand(tree):
    figures = house.measure(tree)["figures"]
    library = figures["library"]
    assert library["files"] == len([name for name in FILES if "/nplp/" in name])
    assert library["lines"] == sum(len(text.splitlines()) for name, text in FILES.items() if "/nplp/" in name)
    assert library["tests_to_code"] == 30 / library["lines"]
    assert figures["siblings"]["tests_to_code"] == 3
    # Of ten arguments that of `halved` has no type, and its result is one of eleven.
    assert library["arguments_typed"] == pytest.approx(100 * 9 / 10)
    assert library["returns_typed"] == pytest.approx(100 * 10 / 11)
    assert house.spread([1, 2, 3, 4]) == (2, 4, 4)
    assert house.spread(list(range(1, 101))) == (50, 95, 100)
    assert house.spread([]) == (0, 0, 0)


def test_the_table_is_written_between_the_markers_and_nowhere_else(tree, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{house.BEGIN}\nstale words\n{house.END}\nafter\n")
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(house.measure(tree)))
    words = ["house", "--tree", str(tree), "--before", str(earlier), "--write", str(page)]
    monkeypatch.setattr("sys.argv", words)
    house.run_tool(house.build_parser(), house.main)
    text = page.read_text()
    assert text.startswith(f"before\n{house.BEGIN}\n|  | library, before | library, now |")
    assert text.endswith(f"{house.END}\nafter\n")
    assert "| package cycles | 1 (nplp.engine -> nplp.report -> nplp.engine) |" in text
    assert "stale words" not in text
    assert capsys.readouterr().out == ""


def test_a_tree_without_the_library_or_without_a_start_is_one_line(tree, tmp_path):
    with pytest.raises(UserError, match="holds no package nplp"):
        house.measure(tmp_path)
    (tree / "nplp/clustering/epsilon.py").write_text("")
    with pytest.raises(UserError, match="house_reading.WALKS"):
        house.measure(tree)


def test_the_present_tree_has_no_cycles():
    tree = Path(house.__file__).parents[1] / "projects" / "NPLP"
    assert house.package_cycles(house_reading.Sources(tree)) == []
