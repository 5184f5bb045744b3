"""Processes of another code, configuration or data stop before they train, and say what differs."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from nplp.distributed import agreement, processes
from nplp.distributed.agreement import check_agreement, code_sum
from nplp.engine import same_run
from nplp.engine.same_run import check_same_data, check_same_program, check_same_weights
from nplp.errors import UserError

WORKER = """
    import json, sys
    from pathlib import Path
    from nplp.distributed.agreement import check_agreement
    from nplp.distributed.processes import launch
    from nplp.errors import UserError
    from fastreid.utils import comm

    def main(folder):
        rank, said = comm.get_rank(), []
        for facts in ({"SEED": "0"}, {"SEED": "0", "SOLVER.BASE_LR": str(0.1 * (1 + rank))}):
            try:
                check_agreement(facts)
                said.append("")
            except UserError as error:
                said.append(str(error))
        Path(folder, f"{rank}.json").write_text(json.dumps(said))

    if __name__ == "__main__":
        launch(main, 2, args=(sys.argv[1],), device="cpu")
"""


def test_every_process_says_what_differs(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in (0, 1):
        same, other = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        assert same == ""
        assert other.startswith("processes 0 and 1 of 2 differ in SOLVER.BASE_LR: 0.1 and 0.2; give all")


@pytest.fixture
def peers(monkeypatch):
    """Let the facts of this process meet those that a second one had; returns the list of the latter."""
    others = []
    monkeypatch.setattr(same_run.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(agreement, "from_all", lambda facts: [facts, others[-1] if others else facts])
    return others


def facts_of(check, *args):
    """Return the facts that a check compares."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same_run, "check_agreement", seen.append)
        check(*args)
    return seen[0]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("SOLVER.BASE_LR", 0.5, "SOLVER.BASE_LR: 0.00035 and 0.5"), ("NPLP.K1", 7, "NPLP.K1: 20 and 7")],
)
def test_another_setting_is_named(tiny_cfg, peers, key, value, said):
    other = tiny_cfg.clone()
    other.defrost()
    other.merge_from_list([key, value])
    peers.append(facts_of(check_same_program, other))
    with pytest.raises(UserError, match=said):
        check_same_program(tiny_cfg)


def test_where_and_how_fast_may_differ(tiny_cfg, peers):
    other = tiny_cfg.clone()
    other.defrost()
    other.merge_from_list(
        ["OUTPUT_DIR", "elsewhere", "DATALOADER.NUM_WORKERS", 3, "DATALOADER.DECODED.DISK_MB", 0]
    )
    peers.append(facts_of(check_same_program, other))
    check_same_program(tiny_cfg)


def test_another_code_is_named(tiny_cfg, peers, monkeypatch):
    peers.append(facts_of(check_same_program, tiny_cfg))
    monkeypatch.setattr(same_run, "code_sum", lambda: "another")
    with pytest.raises(UserError, match="differ in the code of nplp"):
        check_same_program(tiny_cfg)


def test_any_changed_source_changes_the_sum(tmp_path, monkeypatch):
    package = Path(agreement.__file__).parents[1]
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package / "distributed", tmp_path / "nplp" / "distributed", ignore=ignored)
    monkeypatch.setattr(agreement, "__file__", str(tmp_path / "nplp" / "distributed" / "agreement.py"))
    before = code_sum()
    assert before == code_sum()
    (tmp_path / "nplp" / "distributed" / "children.py").write_text("", encoding="utf-8")
    assert code_sum() != before


@pytest.mark.parametrize(
    "other",
    [
        [("a/1.jpg", "0", "c1")],
        [("a/1.jpg", "0", "c2"), ("a/2.jpg", "1", "c2")],
        [("a/1.jpg", "0", "c1")] * 2,
    ],
)
def test_other_images_are_named(peers, other):
    peers.append(facts_of(check_same_data, "the target", other))
    with pytest.raises(UserError, match=r"differ in the target: 2 images, sum \w{12} and"):
        check_same_data("the target", [("a/1.jpg", "0", "c1"), ("a/2.jpg", "1", "c2")])


def test_the_folder_may_be_another_on_each_machine(peers):
    peers.append(facts_of(check_same_data, "the target", [("b/1.jpg", "0", "c1")]))
    check_same_data("the target", [("a/1.jpg", "0", "c1")])


def test_other_weights_are_named(peers):
    model = torch.nn.BatchNorm1d(2)
    peers.append(facts_of(check_same_weights, model, "source.pth"))
    check_same_weights(model, "source.pth")
    model.running_mean[1] = 1e-30
    with pytest.raises(UserError, match=r"differ in the weights of source.pth: sum \w{12} and sum"):
        check_same_weights(model, "source.pth")


def test_alone_nothing_is_compared(tiny_cfg, monkeypatch):
    check_agreement({"SEED": "0"})
    monkeypatch.setattr(same_run, "check_agreement", lambda facts: pytest.fail(f"compared {list(facts)}"))
    check_same_program(tiny_cfg)
    check_same_data("the target", [("a/1.jpg", "0", "c1")])
    check_same_weights(torch.nn.BatchNorm1d(2), "source.pth")


@pytest.mark.parametrize(("count", "again"), [(None, False), ("0", False), ("2", True)])
def test_torchruns_restarts_are_known(monkeypatch, count, again):
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    if count is not None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert processes.restarted() is again
