"""Tracks of own images: read, used in a run and told in its record."""

import csv
import json
import logging

import numpy as np
import pytest

from nplp.adapt.facts import ImageFacts, MachineFacts, look_at_images
from nplp.adapt.settings import choose_settings
from nplp.data.datasets import load_training_items
from nplp.data.own_dataset import tracks_of_items
from nplp.data.registered import synthetic_images
from nplp.data.synthetic_tracks import synthetic_tracks
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.engine.tracks import check_method, target_constraints
from nplp.errors import UserError
from nplp_commands.synthetic import write_table
from nplp_synthetic import DomainSpec, ensure_domain, track_images
from tiny import make_tiny_cfg

SPEC = DomainSpec(
    "station", 10, 1, images_per_identity=12, cameras=2, image_size=(64, 32), distractors=0, junk=0
)
SHORT = ("NPLP.ITERATIONS", 1, "NPLP.STARTUP_ITERATIONS", 1, "NPLP.STEPS_PER_EPOCH", 1)


@pytest.fixture
def table(synthetic_root, tmp_path):
    path = tmp_path / "crops 🎥.csv"
    write_table(track_images(SPEC, 4), ensure_domain(SPEC, synthetic_root, workers=1), path)
    return path


@pytest.fixture
def own_cfg(synthetic_root, tmp_path):
    def make(table, *pairs):
        names = ("DATASETS.NAMES", "OwnImages", "DATASETS.OWN.SOURCE", table, "DATASETS.TESTS", "()")
        return make_tiny_cfg(synthetic_root, tmp_path / "run", *names, *SHORT, *pairs)

    return make


def without(table, *columns):
    """Rewrite a table without some columns."""
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    names = [name for name in rows[0] if name not in columns]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return table


def constraints_of(cfg):
    return target_constraints(cfg, load_training_items(cfg))


def test_a_table_of_a_drawn_domain_makes_constraints(table, own_cfg):
    cfg = own_cfg(table, "NPLP.TRACKS", "constrain")
    items, known = load_training_items(cfg), constraints_of(cfg)
    assert known.constrained_images == len(items) == 120
    people = np.array([item[1] for item in items])
    assert all(len(set(people[known.components == track])) == 1 for track in range(len(known.sizes)))
    who = {component: people[i] for i, component in enumerate(known.components)}
    assert len(known.cannot)
    assert all(who[one] != who[other] for one, other in known.cannot.tolist())
    assert constraints_of(own_cfg(table)) is None


@pytest.mark.parametrize("column", ["time", "camera"])
def test_without_times_or_cameras_nobody_is_known_to_be_another(table, own_cfg, column, caplog):
    with caplog.at_level(logging.INFO, "nplp.engine.tracks"):
        known = constraints_of(own_cfg(without(table, column), "NPLP.TRACKS", "constrain"))
    assert not len(known.cannot)
    assert known.constrained_images > 0


def test_without_tracks_the_switch_is_refused_in_one_line(table, own_cfg):
    with pytest.raises(UserError, match=r"NPLP\.TRACKS is 'constrain', but none of the 120 images"):
        constraints_of(own_cfg(without(table, "track"), "NPLP.TRACKS", "constrain"))
    with pytest.raises(UserError, match=r"NPLP\.TRACKS must be one of .*, got 'yes'"):
        own_cfg(table, "NPLP.TRACKS", "yes")


@pytest.fixture
def drawn_cfg(synthetic_root, tmp_path):
    def make(*pairs):
        use = ("NPLP.TRACKS", "constrain", "DATASETS.SYNTHETIC_TRACKS.LENGTH", 3)
        return make_tiny_cfg(synthetic_root, tmp_path / "run", *use, *SHORT, *pairs)

    return make


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_a_built_in_domain_has_the_tracks_of_its_table(drawn_cfg, own_cfg, tmp_path, wrong):
    cfg = drawn_cfg("DATASETS.SYNTHETIC_TRACKS.WRONG", wrong)
    spec, folder = synthetic_images(cfg, "SynthStation")
    table = tmp_path / "station.csv"
    write_table(track_images(spec, 3, wrong), folder, table)
    items, own = load_training_items(cfg), load_training_items(own_cfg(table))
    place = {path: row for row, (path, _, _) in enumerate(own)}
    rows = [place[path] for path, _, _ in items]
    found, expected = synthetic_tracks(cfg, items), tracks_of_items(own_cfg(table), own)
    assert np.array_equal(found.times, expected.times[rows])
    together = [tracks[:, None] == tracks for tracks in (found.tracks, expected.tracks[rows])]
    assert np.array_equal(*together)
    assert (found.tracks >= 0).all()


def test_a_built_in_domain_may_tell_no_times_and_no_tracks(drawn_cfg):
    assert len(constraints_of(drawn_cfg()).cannot)
    assert not len(constraints_of(drawn_cfg("DATASETS.SYNTHETIC_TRACKS.TIMES", False)).cannot)
    with pytest.raises(UserError, match=r"none of the \d+ images of \('SynthStation',\) is in a track"):
        constraints_of(drawn_cfg("DATASETS.SYNTHETIC_TRACKS.LENGTH", 0))


@pytest.mark.parametrize(
    ("key", "value", "rule"), [("LENGTH", -1, "at least 0"), ("WRONG", 1.5, r"in \[0, 1\]")]
)
def test_impossible_tracks_are_refused_in_one_line(drawn_cfg, key, value, rule):
    with pytest.raises(UserError, match=f"DATASETS.SYNTHETIC_TRACKS.{key} must be {rule}, got {value}"):
        drawn_cfg(f"DATASETS.SYNTHETIC_TRACKS.{key}", value)


def test_a_method_that_takes_no_constraints_is_refused_in_one_line(table, own_cfg):
    class Deaf:
        def label(self, iteration, features, cameras):
            raise NotImplementedError

    with pytest.raises(UserError, match="the method 'nplp' takes no constraints"):
        check_method(own_cfg(table, "NPLP.TRACKS", "constrain"), Deaf())
    check_method(own_cfg(table, "NPLP.TRACKS", "average"), Deaf())


@pytest.mark.parametrize("use", ["constrain", "average"])
def test_a_run_tells_what_tracks_did(table, own_cfg, use, caplog):
    cfg = own_cfg(table, "NPLP.TRACKS", use)
    prepare_output(cfg)
    logging.getLogger("nplp").propagate = True
    with caplog.at_level(logging.INFO):
        run(cfg, cfg, resume=False)
    (line,) = map(json.loads, (table.parent / "run" / "pseudo_labels.jsonl").open())
    assert "Tracks: 120 of 120 images in " in caplog.text
    if use == "average":
        assert "tracks" not in line
        return
    changes = line["tracks"]
    assert changes["joined_images"] + changes["moved_images"] + changes["new_clusters"] > 0
    assert changes["before"]["outliers"] >= 0
    assert 0 <= changes["before"]["precision"] <= 1
    assert "\n  tracks: " in caplog.text
    assert "; before: " in caplog.text


def test_adapt_turns_tracks_on_where_there_are_some(table, own_cfg):
    cfg = own_cfg(table)
    items = load_training_items(cfg)
    facts = look_at_images(items, False, tracks_of_items(cfg, items))
    assert (facts.tracked, facts.timed) == (120, True)
    chosen = {choice.name: choice for choice in choose_settings(facts, MachineFacts("", 2))}
    assert chosen["tracks"].keys == {"NPLP.TRACKS": "constrain"}
    assert "120 of 120 images are in tracks" in chosen["tracks"].reason
    plain = ImageFacts(120, {"a": 60, "b": 60}, 64, 32, False)
    assert "tracks" not in {choice.name for choice in choose_settings(plain, MachineFacts("", 2))}
