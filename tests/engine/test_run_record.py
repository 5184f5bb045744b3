"""The results files and the seeds."""

import json
import random

import numpy as np
import torch
from fastreid.config import get_cfg

from nplp.config import add_nplp_config
from nplp.engine.run_record import RunRecord, config_differences, format_results
from nplp.engine.seeding import derive_seed, seed_everything
from nplp.metric_names import METRICS


def configuration(**changes):
    cfg = get_cfg()
    add_nplp_config(cfg)
    cfg.merge_from_list([part for pair in changes.items() for part in pair])
    return cfg


def test_results_file_holds_stages_seed_times_versions_and_differences(tmp_path):
    cfg = configuration(OUTPUT_DIR=str(tmp_path), SEED=3)
    record = RunRecord(history=[{"iteration": 1, "clusters": 5}])
    record.results["final"] = dict.fromkeys(METRICS, 50.0)
    with record.timed("training"):
        pass
    record.write(cfg, configuration())
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["final"]["mAP"] == 50.0
    assert content["seed"] == 3
    assert content["seconds"]["training"] >= 0
    assert content["versions"]["torch"] == torch.__version__
    assert content["config"] == {"OUTPUT_DIR": str(tmp_path), "SEED": 3}
    lines = (tmp_path / "pseudo_labels.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == record.history


def test_writing_twice_repeats_no_iteration(tmp_path):
    cfg = configuration(OUTPUT_DIR=str(tmp_path))
    record = RunRecord(history=[{"iteration": 1}])
    record.write(cfg, cfg)
    record.history.append({"iteration": 2})
    record.write(cfg, cfg)
    iterations = [json.loads(line)["iteration"] for line in (tmp_path / "pseudo_labels.jsonl").open()]
    assert iterations == [1, 2]


def test_record_survives_a_safe_checkpoint(tmp_path):
    record = RunRecord({"final": {"mAP": 1.5}}, [{"iteration": 1, "stage": "startup"}], {"training": 2.0})
    torch.save(record.state_dict(), tmp_path / "r.pth")
    other = RunRecord()
    other.load_state_dict(torch.load(tmp_path / "r.pth", weights_only=True))
    assert other == record


def test_time_adds_up_even_after_an_error():
    record = RunRecord(seconds={"a": 1.0})
    try:
        with record.timed("a"):
            raise RuntimeError
    except RuntimeError:
        pass
    assert record.seconds["a"] > 1.0


def test_differences_are_dotted_and_exact():
    changed = configuration(**{"NPLP.ALPHA": 0.5, "DATASETS.NAMES": ("SynthPlaza",)})
    assert config_differences(changed, configuration()) == {
        "NPLP.ALPHA": 0.5,
        "DATASETS.NAMES": ["SynthPlaza"],
    }
    assert config_differences(configuration(), configuration()) == {}


def test_table_has_a_row_a_stage_in_order():
    results = {stage: dict.fromkeys(METRICS, 12.345) for stage in ("final", "direct_transfer", "startup")}
    rows = format_results(results).splitlines()[2:]
    assert [row.split("  ")[0] for row in rows] == ["Direct transfer", "End of startup", "Final"]
    assert "12.35" in rows[0] or "12.34" in rows[0]


def test_seeds_depend_on_every_part_of_the_position():
    seeds = {derive_seed(seed, stage, epoch) for seed in range(3) for stage in range(2) for epoch in range(4)}
    assert len(seeds) == 24
    assert derive_seed(1, 2, 3) == derive_seed(1, 2, 3)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeding_sets_all_three_generators():
    def draws():
        return random.random(), np.random.random(), torch.rand(1).item()

    seed_everything(derive_seed(5))
    first = draws()
    seed_everything(derive_seed(5))
    assert draws() == first
