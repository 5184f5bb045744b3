"""The fit of the verdict on toys whose answer is known, and the committed figures."""

import json

import numpy as np
import pytest

import verdict_records
import verdicts
from nplp.engine.verdict import DOUBTFUL, FAILED, FAILED_FALL, HEALTHY, HEALTHY_FALL
from nplp.errors import UserError
from verdict_records import Case, Outcome, gather, keep, load_cases, record_of


def case(fall, gain, group="a", domain="here", maps=(), **last):
    lines = [
        {"iteration": n, "epsilon_e": e, "clusters": 60, "outliers": 100} for n, e in ((1, 1.0), (2, fall))
    ]
    lines = [{**line, "images": 1000, "largest_cluster_share": 0.1, "rules": []} for line in lines]
    for line, value in zip(lines, maps, strict=False):
        line["mAP"] = value
    lines[-1].update(last)
    return Case(f"{domain}/{fall}/{gain}", domain, group, lines, 20.0, 20.0 + gain)


TOY = [
    case(0.5, 30),
    case(0.6, 20),
    case(0.7, 10),
    case(0.8, 5),
    *(case(fall, 0) for fall in (0.9, 0.95, 1.02)),
]


def test_the_fit_parts_the_two_kinds_in_the_middle():
    found = verdicts.fit(TOY)
    assert 0.8 <= found["healthy_fall"] < 0.9
    assert found["healthy_fall"] == pytest.approx(0.85, abs=0.011)
    assert found["healthy_fall"] <= found["failed_fall"] <= 0.9


def test_failed_needs_four_of_five():
    """From 0.9 on three of four gained nothing, above 0.91 two of two, which are too few."""
    assert verdicts.fit([*TOY, case(0.91, 6)])["failed_fall"] == verdicts.GRID[-1]
    assert verdicts.fit([*TOY, case(0.91, 6), case(0.96, 0)])["failed_fall"] <= 0.9
    assert verdicts.fit([*TOY[:4], case(1.02, 0)])["failed_fall"] == verdicts.GRID[-1]


def test_nothing_is_fitted_to_one_kind_alone():
    assert verdicts.fit(TOY[:4]) is None
    assert verdicts.fit([]) is None
    with pytest.raises(UserError, match="nothing can be fitted"):
        verdicts.analyse(TOY[:4])


def test_runs_whose_epsilon_tells_nothing_are_no_part_of_the_fit():
    exploded = case(0.5, -10, rules=[{"rule": "explosion"}])
    held = case(1.0, 20)
    euclidean = Case("d2m/pap2+euclidean/seed0", "here", "e", case(1.5, 9).history, 20.0, 29.0)
    made = Case("made_to_fail/noise/plus/seed0", "here", "m", case(1.5, 9).history, 20.0, 29.0)
    assert verdicts.fit([*TOY, exploded, held, euclidean, made]) == verdicts.fit(TOY)


def test_wrong_is_healthy_that_gained_less_and_failed_that_gained():
    cases = [case(0.5, 1, "a"), case(0.5, 9, "b"), case(0.85, 0, "c"), case(0.95, 3, "d"), case(0.95, 0, "e")]
    found = verdicts.error_rates(cases, {"healthy_fall": 0.8, "failed_fall": 0.9})
    assert [found[word] for word in (HEALTHY, DOUBTFUL, FAILED)] == [2, 1, 2]
    assert [found[f"{word}_gained_less"] for word in (HEALTHY, DOUBTFUL, FAILED)] == [1, 1, 1]
    assert (found["runs"], found["gained_less"], found["wrong"], found["groups"]) == (5, 3, 2, 5)
    low, high = found["wrong_interval"]
    assert 0 <= low < 40 < high <= 100


def test_no_error_is_no_proof_that_there_are_none():
    found = verdicts.error_rates([case(0.5, 9, "a"), case(0.5, 8, "b")], {})
    assert found["wrong_interval"] == [0.0, pytest.approx(100 * (1 - 0.025**0.5), abs=0.01)]


def test_a_bootstrap_draws_whole_groups():
    groups = ["a", "a", "b", "c"]
    for draw in verdicts.resample(groups)[:50]:
        counts = np.bincount(draw, minlength=4)
        assert counts[0] == counts[1]
        assert counts[0] + counts[2] + counts[3] == 3


def test_a_domain_is_judged_by_the_others():
    there = [case(fall, gain, domain="there") for fall, gain in ((0.5, 9), (0.7, 0), (0.75, 0), (0.76, 0))]
    rows = {row["domain"]: row for row in verdicts.left_out([*TOY, *there])}
    assert rows["there"]["healthy_fall"] == verdicts.fit(TOY)["healthy_fall"]
    assert rows["there"]["wrong"] == 3
    assert 0.5 < rows["here"]["healthy_fall"] < 0.7


def test_rules_choose_an_iteration():
    found = verdicts.choices(case(0.95, -5, maps=(30.0, 15.0)))
    assert (found["last"], found["best"], found["old model where failed"]) == (15.0, 30.0, 20.0)
    assert "agreement" not in found
    settled = case(0.5, 9, maps=(30.0, 29.0), label_agreement=0.99)
    assert verdicts.choices(settled)["agreement"] == 29.0


def test_the_page_shows_the_committed_figures():
    found = json.loads(verdicts.JSON.read_text(encoding="utf-8"))
    page = verdicts.PAGE.read_text(encoding="utf-8")
    assert verdicts.fill(page, found) == page


def test_the_librarys_thresholds_are_the_committed_fit():
    found = json.loads(verdicts.JSON.read_text(encoding="utf-8"))["epsilon_fall"]
    assert found == {"healthy_fall": HEALTHY_FALL, "failed_fall": FAILED_FALL}


def test_agreement_counts_a_doubt_about_a_good_run_as_none():
    outcomes = [
        Outcome("here", "a", HEALTHY, 2.0),
        Outcome("here", "b", HEALTHY, 1.9),
        Outcome("here", "c", DOUBTFUL, 9.0),
        Outcome("there", "d", DOUBTFUL, 0.0),
        Outcome("there", "e", FAILED, -5.0),
    ]
    here, there, whole = verdicts.agreement(outcomes)
    assert (here["runs"], here["gained_less"], here["agreed"]) == (3, 1, 1)
    assert (here["healthy"], here["healthy_gained_less"], here["doubtful_gained_less"]) == (2, 1, 0)
    # None of two groups disagrees: 0.025 ** (1 / 2) is the least share that shows two of two in 2.5%.
    assert (there["agreed"], there["agreed_interval"]) == (2, [15.81, 100.0])
    assert (whole["domain"], whole["runs"], whole["agreed"]) == ("all", 5, 3)


def test_a_page_without_a_place_for_a_table_is_refused():
    found = json.loads(verdicts.JSON.read_text(encoding="utf-8"))
    with pytest.raises(UserError, match="once"):
        verdicts.fill("# A page", found)


def test_committed_records_are_read():
    cases = load_cases()
    assert len(cases) >= 245
    assert len({entry.run for entry in cases}) == len(cases)
    assert {entry.domain for entry in cases} >= {"PKU-Reid", "plaza to station", "plaza to harbour"}
    for entry in cases:
        assert 0 <= entry.history[-1]["outliers"] <= entry.history[-1]["images"]


def test_records_hold_numbers_alone_and_replace_their_like(tmp_path):
    line = {"iteration": 1, "epsilon_e": 0.123456, "clusters": 4, "alpha_trials": [{"guess": 1}]}
    line["rules"] = [{"rule": "explosion", "action": "report", "text": "words"}]
    record = record_of("a/b/c", 24, {"final": {"mAP": 12.34567}, "seed": 0}, [line])
    assert record["mAP"] == {"final": 12.346}
    rules = [{"rule": "explosion", "action": "report"}]
    assert record["history"] == [{"iteration": 1, "epsilon_e": 0.1235, "clusters": 4, "rules": rules}]
    path = tmp_path / "records.jsonl"
    keep([record, {**record, "run": "a/a"}], path)
    keep([{**record, "images": 25}], path)
    assert [json.loads(text)["run"] for text in path.read_text().splitlines()] == ["a/a", "a/b/c"]
    assert json.loads(path.read_text().splitlines()[1])["images"] == 25


def test_runs_are_gathered_by_their_places(tmp_path):
    with pytest.raises(UserError, match="no adaptation has ended"):
        gather(tmp_path)
    folder = tmp_path / "synthetic" / "d2m" / "pap2" / "seed0" / "alone"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(
        json.dumps({"final": {"mAP": 40.0}, "direct_transfer": {"mAP": 20.0}})
    )
    lines = [{"iteration": n, "epsilon_e": 0.5, "clusters": 9, "outliers": 1, "rules": []} for n in (1, 2)]
    (folder / "pseudo_labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (record,) = gather(tmp_path)
    assert record["run"] == "synthetic/d2m/pap2/seed0/alone"
    found = verdict_records._case(record["run"], record["mAP"], record["history"], record["images"])
    assert (found.domain, found.gain) == ("plaza to station", 20.0)
