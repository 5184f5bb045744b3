"""A method in place of the recommended settings."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from adapt_cases import SHORT
from nplp.adapt.methods import NamedMethod
from nplp.adapt.request import Request, describe_choices, make_plan
from nplp.adapt.run import Products, adapt
from nplp.errors import UserError
from nplp_commands import adapt as command
from nplp_commands.configurations import method_overlays


def plan_of(crops, weights, folder, name, **changes):
    method = NamedMethod(name, str(method_overlays()[name]))
    fields = {"options": SHORT, "method": method, **changes}
    return make_plan(Request(str(crops), str(weights), str(folder / "run"), **fields))


def row_of(plan, name):
    return next(line for line in describe_choices(plan).splitlines() if line.startswith(name))


def test_it_takes_the_place_of_the_recommended_additions(crops, weights, tmp_path):
    plan = plan_of(crops, weights, tmp_path, "memory")
    nplp = plan.cfg.NPLP
    assert nplp.METHOD == "memory"
    assert plan.cfg.MODEL.LOSSES.NAME == ("ClusterMemoryLoss",)
    assert not any((nplp.CAMERA_CENTERING, nplp.EMA, nplp.EMA_LABELS, plan.cfg.MODEL.NORM_CAMERAS))
    # 96 images: the neighbours of its own section are fewer.
    assert (nplp.MEMORY.K1, nplp.MEMORY.K2) == (9, 3)
    assert "memory" in row_of(plan, "method")
    assert "you asked for it" in row_of(plan, "method")
    assert "alpha" not in describe_choices(plan)


def test_without_a_name_the_table_says_what_is_recommended(crops, weights, tmp_path):
    plan = make_plan(Request(str(crops), str(weights), str(tmp_path / "run"), options=SHORT))
    assert plan.cfg.NPLP.CAMERA_CENTERING
    assert "recommended additions" in row_of(plan, "method")


def test_the_shape_of_the_source_models_head_stays(crops, weights, tmp_path):
    """Its weights are in the file; which of its features is used is the method's."""
    plan = plan_of(crops, weights, tmp_path, "memory")
    heads = plan.cfg.MODEL.HEADS
    assert (heads.FUSION, heads.PAP, heads.OUTPUT) == ("hn", 2, "f_bn")


def test_the_papers_method_corrects_in_the_second_half(crops, weights, tmp_path):
    plan = plan_of(crops, weights, tmp_path, "nplp", options=("MODEL.DEVICE", "cpu"))
    assert 2 * plan.cfg.NPLP.STARTUP_ITERATIONS == plan.cfg.NPLP.ITERATIONS
    assert plan.cfg.NPLP.STOP.MIN_ITERATIONS > plan.cfg.NPLP.STARTUP_ITERATIONS
    assert "after 4" not in row_of(plan, "end")


def test_the_users_own_options_hold_over_it(crops, weights, tmp_path):
    plan = plan_of(crops, weights, tmp_path, "memory", options=(*SHORT, "NPLP.MEMORY.EPSILON", "0.45"))
    assert plan.cfg.NPLP.MEMORY.EPSILON == 0.45


@pytest.mark.parametrize("name", method_overlays())
def test_every_overlay_makes_a_plan_that_can_be_shown(crops, weights, tmp_path, name):
    method = NamedMethod(name, str(method_overlays()[name]))
    # Images this small have a feature map of two rows.
    options = (*SHORT, "NPLP.PPLR.PARTS", "2") if name.startswith("pplr") else SHORT
    request = Request(str(crops), str(weights), str(tmp_path / "run"), options=options, method=method)
    # The source model has a hyper-network, and with it no feature that falls into stripes.
    refused = (
        pytest.raises(UserError, match="FUSION must be 'concat' with NPLP.METHOD 'ssg', got 'hn'")
        if name == "ssg"
        else nullcontext()
    )
    with refused:
        adapt(request, Products(onnx=False, index=False), dry_run=True)
    assert not (tmp_path / "run").exists()


def test_what_it_needs_and_is_not_there_is_one_line(crops, weights, tmp_path):
    one_camera = next(path for path in Path(crops).iterdir() if path.is_dir())
    with pytest.raises(UserError, match="--method nplp-plus compares cameras") as caught:
        plan_of(one_camera, weights, tmp_path, "nplp-plus")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="--people sets alpha, which --method memory has not"):
        plan_of(crops, weights, tmp_path, "memory", people=20)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["--images", "x", "--weights", "y", "--method", "memroy"],
            "--method must be one of cap, cluster_contrast",
        ),
        (["--resume", "--method", "memory"], "got --method: leave it out"),
    ],
)
def test_wrong_words_are_one_line(words, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nplp adapt", "--output", str(tmp_path / "run"), *words])
    with pytest.raises(SystemExit) as caught:
        command.command_line()
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert reason in shown
    assert shown.count("\n") == 1
