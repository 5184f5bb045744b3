"""The page of a run: what it holds, and what it says where something is not known."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from nplp.report.page import write_report
from nplp.report.reading import read_run

SECTIONS = ["results", "curves", "map", "clusters", "noise", "distances", "queries", "run"]


class Outline(HTMLParser):
    """Collects what a page holds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def copied(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.pth"))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def page(finished_run):
    """The page that the run wrote itself."""
    return (finished_run / "report.html").read_text(encoding="utf-8")


def written(folder, **options):
    return write_report(folder, **options).read_text(encoding="utf-8")


def test_a_run_writes_its_page_by_itself(finished_run):
    assert (finished_run / "report.html").is_file()
    for name in (
        "accuracy",
        "epsilon",
        "clusters",
        "outliers",
        "quality",
        "noise",
        "losses",
        "scores",
        "map_final",
    ):
        assert (finished_run / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (finished_run / "figures" / f"{name}.svg").read_text()


def test_it_is_the_same_again(copied):
    assert written(copied) == written(copied)


def test_it_holds_every_section_and_needs_nothing_else(page):
    outline = Outline(page)
    assert [section["id"] for section in outline.all("section")] == SECTIONS
    assert {link["href"] for link in outline.all("a")} == {f"#{name}" for name in SECTIONS}
    assert all(image["src"].startswith("data:image/") for image in outline.all("img"))
    assert [link["href"] for link in outline.all("link")] == ["data:,"]
    assert not re.search(r"""(src|href)=["']https?://""", page)
    assert "None" not in re.sub(r"data:[^\"']+", "", page)
    assert len(outline.all("svg")) == len(outline.all("figure")) >= 11


def test_results_are_those_of_the_run(page, finished_run):
    results = json.loads((finished_run / "results.json").read_text())
    for stage in ("direct_transfer", "startup", "final", "final_ema"):
        for value in results[stage].values():
            assert f">{value:.1f}" in page
    assert "finished" in page


def test_the_verdict_stands_at_the_top_and_may_be_missing(page, copied):
    verdict = json.loads((copied / "results.json").read_text())["verdict"]
    assert page.index(f"<strong>{verdict['word']}: ") < page.index('id="results"')
    path = copied / "pseudo_labels.jsonl"
    lines = [json.loads(line) for line in path.open()]
    lines[-1]["verdict"] = {"word": "doubtful", "reasons": ["<b> & so"]}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "<strong>doubtful: &lt;b&gt; &amp; so</strong>" in written(copied)
    for line in lines:
        del line["verdict"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "Verdict" not in written(copied)


def test_it_can_be_read_without_seeing(page):
    outline = Outline(page)
    assert outline.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in outline.all("img"))
    pictures = [each for _, each in outline.tags if each.get("role") in ("img", "application")]
    assert pictures
    assert all(each["aria-label"] for each in pictures)
    assert all(each.get("scope") in ("col", "row") for each in outline.all("th"))


def test_the_map_has_the_same_images_at_three_stages(page, finished_run):
    circles = Outline(page).all("circle")
    sample = len(read_run(finished_run).images["sample"])
    numbers = [int(circle["data-i"]) for circle in circles if "data-i" in circle]
    assert numbers == list(range(sample)) * 3


def test_without_identities_it_says_what_it_cannot_know(copied):
    path = copied / "trace" / "images.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != "identities"}
    np.savez(path, **arrays)
    known = ("precision", "recall", "nmi", "ari", "mixed_noise", "fragmented_noise", "identities")
    lines = [json.loads(line) for line in (copied / "pseudo_labels.jsonl").open()]
    lines = [{key: value for key, value in line.items() if key not in known} for line in lines]
    (copied / "pseudo_labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = written(copied)
    assert "cannot say which are right" in page
    assert "cannot be known without identities" in page
    assert "Score against purity" not in page
    assert "person, other camera" not in page
    assert "Lowest scores" in page


def test_rules_say_what_they_found_in_words_or_in_an_older_runs_numbers(copied):
    path = copied / "pseudo_labels.jsonl"
    lines = [json.loads(line) for line in path.open()]
    lines[0]["rules"] = [{"rule": "giant_cluster", "action": "lowered", "literal_epsilon": 0.5}]
    lines[1]["rules"] = [{"rule": "no_cluster", "action": "keep", "text": "no cluster & <nothing>"}]
    lines[1]["rejected"] = {
        "rules": [{"rule": "many_outliers", "action": "report", "text": "all are outliers"}]
    }
    lines[2]["rules"] = []
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = written(copied)
    assert "<td>1</td><td>giant cluster</td><td>action lowered, literal_epsilon 0.5</td>" in page
    assert "<td>2</td><td>no cluster</td><td>no cluster &amp; &lt;nothing&gt;</td>" in page
    assert "<td>2</td><td>rejected labels, many outliers</td><td>all are outliers</td>" in page


def test_without_a_trace_there_are_curves_and_a_reason(copied):
    shutil.rmtree(copied / "trace")
    page = written(copied)
    assert "left no trace" in page
    assert "Rank-1 and mAP" in page
    assert "<img" not in page


def test_images_that_are_gone_do_not_matter(copied):
    path = copied / "trace" / "images.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    arrays["paths"] = np.array(["/gone.jpg"] * len(arrays["paths"]))
    np.savez(path, **arrays)
    assert "Lowest scores" in written(copied)


def test_a_run_that_has_just_begun_has_a_page(copied):
    results = json.loads((copied / "results.json").read_text())
    (copied / "results.json").write_text(json.dumps({"direct_transfer": results["direct_transfer"]}))
    (copied / "pseudo_labels.jsonl").write_text("")
    (copied / "metrics.json").write_text("")
    for path in (copied / "trace").glob("*_0*.npz"):
        path.unlink()
    page = written(copied, refresh=30)
    assert "running: 0 of 3 iterations" in page
    assert '<meta http-equiv="refresh" content="30">' in page
    assert "Nothing" not in page


def test_what_names_hold_is_text_and_no_markup(copied):
    path = copied / "config.yaml"
    path.write_text(path.read_text().replace("SynthStation", "<script>alert(1)</script>"))
    page = written(copied)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_page_that_cannot_be_drawn_costs_no_model(synthetic_root, tmp_path, monkeypatch):
    from nplp.engine.pipeline import run
    from nplp.engine.setup import prepare_output
    from nplp.report.after_run import write_pages
    from tiny import make_tiny_cfg

    monkeypatch.setattr("nplp.report.page.write_report", lambda folder: 1 / 0)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "NPLP.REPORT", True, "NPLP.ITERATIONS", 1)
    prepare_output(cfg)
    assert run(cfg, cfg, resume=False, at_end=write_pages)["final"]
    assert (tmp_path / "model_final.pth").is_file()
    assert not (tmp_path / "report.html").exists()
