"""The configuration's keys, their validation and the files in configs/NPLP."""

import argparse
from pathlib import Path

import pytest
import yaml
from fastreid.config import get_cfg

from nplp.config import add_nplp_config, source_config
from nplp.config.dotted import value_at
from nplp.config.validation import validate_config
from nplp.engine.setup import base_config, load_config
from nplp.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs" / "NPLP"
TASKS = {
    "d2m": ("DukeMTMC", "Market1501"),
    "m2d": ("Market1501", "DukeMTMC"),
    "m2msmt": ("Market1501", "MSMT17"),
    "d2msmt": ("DukeMTMC", "MSMT17"),
    "source_duke": ("DukeMTMC", "Market1501"),
    "source_market": ("Market1501", "DukeMTMC"),
    "quickstart": ("SynthPlaza", "SynthStation"),
    "d2m-plus": ("DukeMTMC", "Market1501"),
    "quickstart-plus": ("SynthPlaza", "SynthStation"),
}


def load(name, *pairs):
    return load_config(
        argparse.Namespace(config_file=str(CONFIGS / f"{name}.yml"), opts=[str(p) for p in pairs])
    )


@pytest.fixture
def defaults():
    cfg = get_cfg()
    add_nplp_config(cfg)
    return cfg


def of_the_same_keys(ours, theirs):
    """Return what one section has under the keys of another, sections in it likewise."""
    return {
        key: of_the_same_keys(ours[key], value) if isinstance(value, dict) else ours[key]
        for key, value in theirs.items()
    }


def test_the_toolbox_defaults_stay_as_they_are(defaults):
    plain = get_cfg()
    for section in ("SOLVER", "INPUT", "TEST", "DATALOADER"):
        assert of_the_same_keys(defaults[section], plain[section]) == plain[section]
    assert defaults.MODEL.HEADS.EMBEDDING_DIM == plain.MODEL.HEADS.EMBEDDING_DIM


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yml")))
def test_every_file_loads_and_is_valid(name):
    assert load(name).is_frozen()


@pytest.mark.parametrize(
    "key", ["DATASETS.NAMES", "DATASETS.TESTS", "NPLP.SOURCE.DATASETS", "MODEL.LOSSES.NAME"]
)
@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("Market1501", ("Market1501",)),
        ("Market1501,MSMT17", ("Market1501", "MSMT17")),
        ("(Market1501, MSMT17)", ("Market1501", "MSMT17")),
        ("[Market1501]", ("Market1501",)),
        ("('Market1501')", ("Market1501",)),
        ("('Market1501',)", ("Market1501",)),
        ("['Market1501', 'MSMT17']", ("Market1501", "MSMT17")),
        ("()", ()),
        ("", ()),
    ],
)
def test_names_may_be_typed_without_pythons_punctuation(key, typed, read):
    cfg = load("quickstart", key, typed)
    for part in key.split("."):
        cfg = cfg[part]
    assert cfg == read


def test_names_replace_none():
    assert load("quickstart", "DATASETS.TESTS", "()", "DATASETS.TESTS", "MSMT17").DATASETS.TESTS == (
        "MSMT17",
    )


@pytest.mark.parametrize(
    ("key", "typed", "form"),
    [
        ("SOLVER.STEPS", "40", '"[40]"'),
        ("SOLVER.STEPS", "many", "\"['many']\""),
        ("INPUT.SIZE_TRAIN", "128", '"[128]"'),
        ("DATASETS.TESTS", "5", '"[5]"'),
    ],
)
def test_one_value_where_several_are_needed_shows_the_form(key, typed, form):
    with pytest.raises(UserError, match=f"'{key} {typed}': ") as caught:
        load("quickstart", key, typed)
    assert str(caught.value).endswith(f"; it takes several values: {key} {form}")


@pytest.mark.parametrize(("name", "task"), TASKS.items())
def test_leaves_name_their_task(name, task):
    cfg = load(name)
    source, target = task
    assert tuple(cfg.NPLP.SOURCE.DATASETS) == (source,)
    assert tuple(cfg.DATASETS.NAMES) == tuple(cfg.DATASETS.TESTS) == (target,)


def test_base_holds_the_papers_settings():
    cfg = load("d2m")
    assert (cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.HEADS.PAP, cfg.MODEL.HEADS.FUSION) == ("50x", 2, "hn")
    assert cfg.INPUT.SIZE_TRAIN == [256, 128]
    assert (cfg.SOLVER.OPT, cfg.SOLVER.BASE_LR) == ("SGD", 1.2e-3)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE) == (64, 4)
    nplp = cfg.NPLP
    assert (nplp.ALPHA, nplp.BETA, nplp.NOISY_FRACTION, nplp.STARTUP_ITERATIONS) == (0.0012, 0.5, 0.1, 15)
    assert not nplp.CAMERA_CENTERING
    assert not nplp.EMA


PAPERS = sorted(
    str(path.relative_to(CONFIGS).with_suffix(""))
    for path in (*CONFIGS.glob("*.yml"), *CONFIGS.glob("reproduce/*.yml"))
    if not path.stem.endswith("-plus")
)


@pytest.mark.parametrize("name", PAPERS)
def test_no_rule_changes_labels_in_a_configuration_of_the_paper(name):
    """Where clusters are many enough to train on, what the equations give is what is trained on."""
    rules = load(name).NPLP.RULES
    acting = {"GIANT_CLUSTER": "off", "EQUAL_SCORES": "order", "SMALL_CLUSTERS": "repeat"}
    assert {rule: rules[rule] for rule in acting} == acting


RECOMMENDED = "plus"
"""The ablation that is all recommended additions."""
ABLATIONS = {path.stem: path for path in (CONFIGS / "ablations").glob("*.yml")}


@pytest.mark.parametrize("overlay", sorted({*ABLATIONS} - {RECOMMENDED}))
def test_no_ablation_switches_a_rule_on(overlay):
    text = (CONFIGS / "ablations" / f"{overlay}.yml").read_text()
    assert "RULES" not in text


def test_the_recommended_settings_are_the_papers_with_the_overlay():
    def said(name):
        content = yaml.safe_load((CONFIGS / name).read_text())
        content.pop("_BASE_", None)
        return content

    assert said("Base-NPLP-plus.yml") == said("ablations/plus.yml")
    plus, plain = load("d2m-plus"), load("d2m")
    changed = {key for key in plus if plus[key] != plain[key]}
    assert changed == {"MODEL", "NPLP", "TEST", "OUTPUT_DIR"}
    assert {key for key in plus.MODEL if plus.MODEL[key] != plain.MODEL[key]} == {"LOSSES", "NORM_CAMERAS"}


@pytest.mark.parametrize("name", ["nplp", "memory", "cluster_contrast", "cap", "o2cap", "pplr", "pplr_cam"])
def test_cameras_are_treated_alike_for_every_method(name):
    overlays = CONFIGS.parent / "methods" / "overlays"
    treated, plus = (
        load_config(
            argparse.Namespace(
                config_file=str(CONFIGS / "quickstart.yml"), overlay=[str(file) for file in files], opts=[]
            )
        )
        for files in (
            (overlays / f"{name}.yml", overlays / "cameras.yml"),
            (CONFIGS / "ablations" / "plus.yml",),
        )
    )
    section = treated.NPLP.METHOD.upper()
    assert treated.NPLP.get(section, treated.NPLP).CAMERA_CENTERING
    for key in ("MODEL.NORM_CAMERAS", "NPLP.EMA", "NPLP.EMA_LABELS", "TEST.CAMERAS"):
        assert value_at(treated, key) == value_at(plus, key) != value_at(load("quickstart"), key)


@pytest.mark.parametrize("name", ["memory", "cluster_contrast"])
def test_proxies_are_added_to_a_memory(name):
    overlays = CONFIGS.parent / "methods" / "overlays"
    files = [str(overlays / f"{each}.yml") for each in (name, "proxies")]
    cfg = load_config(argparse.Namespace(config_file=str(CONFIGS / "quickstart.yml"), overlay=files, opts=[]))
    assert cfg.MODEL.LOSSES.NAME == ("ClusterMemoryLoss", "CameraProxyLoss")


@pytest.mark.parametrize("name", ["quickstart-plus"])
def test_plus_leaves_differ_by_the_additions_alone(name):
    plus, plain = load(name), load(name.removesuffix("-plus"))
    assert plus.NPLP.CAMERA_CENTERING
    assert plus.NPLP.EMA
    assert (plus.NPLP.RULES.GIANT_CLUSTER, plus.NPLP.RULES.EQUAL_SCORES) == ("lower", "skip")
    changed = {key for key in plus.NPLP if plus.NPLP[key] != plain.NPLP[key]}
    assert changed <= {"CAMERA_CENTERING", "EMA", "EMA_DECAY", "RULES"}
    assert {key for key in plus if plus[key] != plain[key]} == {"NPLP", "OUTPUT_DIR"}


def test_source_config_takes_the_recipe_of_the_pre_training():
    source = source_config(load("d2m"))
    assert (source.SOLVER.OPT, source.SOLVER.BASE_LR, source.SOLVER.NESTEROV) == ("SGD", 0.01, True)
    assert (source.SOLVER.MAX_EPOCH, source.SOLVER.STEPS, source.SOLVER.IMS_PER_BATCH) == (50, [40], 128)
    assert tuple(source.DATASETS.NAMES) == ("DukeMTMC",)
    assert set(source.MODEL.LOSSES.NAME) == {"CrossEntropyLoss", "TripletLoss"}
    assert source.OUTPUT_DIR == "logs/nplp/d2m/source"


def test_the_base_of_a_leaf_is_the_root_of_its_chain():
    for name in ("quickstart-plus", "d2m-plus", "d2m"):
        assert base_config(str(CONFIGS / f"{name}.yml")).MODEL.BACKBONE.DEPTH == "50x"


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("NPLP.ALPHA", 1.2, r"must be in \(0, 1\], or auto, got 1.2"),
        ("NPLP.ALPHA", -0.1, "must be in"),
        ("NPLP.BETA", -0.5, "must be in"),
        ("NPLP.NOISY_FRACTION", 2.0, "must be in"),
        ("NPLP.MIN_SAMPLES", 0, "at least 1"),
        ("NPLP.DISTANCE", "cosine", "one of"),
        ("NPLP.ASSESSMENT_DISTANCE", "l1", "one of"),
        ("NPLP.CORRECTION_DISTANCE", "l1", "one of"),
        ("NPLP.K1", -1, "at least 1, or 0 to choose it"),
        ("NPLP.K2", 30, "between 1 and NPLP.K1"),
        ("NPLP.K1_INTRA", 0, "at least 1"),
        ("NPLP.K1_INTER", 0, "at least 1"),
        ("NPLP.K2_INTRA", 0, "at least 1"),
        ("NPLP.K2_INTER", -1, "at least 0"),
        ("NPLP.CAMERA_SCALING", True, "False unless NPLP.CAMERA_CENTERING is True, got True"),
        ("NPLP.EPSILON_UPDATE", "never", "'iteration' or 'first'"),
        ("NPLP.NOISY", "split", "one of .*recluster.*drop.*keep"),
        ("NPLP.DISSOLVED", "merge", "'drop' or 'keep'"),
        ("NPLP.RECLUSTERED_OUTLIERS", "keep", "'drop' or 'rejoin'"),
        ("NPLP.EMA_DECAY", 1.0, "in"),
        ("NPLP.METHOD", "nlp", "one of .*memory.*nplp"),
        ("NPLP.ITERATIONS", -1, "at least 0"),
        ("NPLP.EPOCHS_PER_ITERATION", 0, "at least 1"),
        ("NPLP.SOURCE.MAX_EPOCH", 0, "at least 1"),
        ("MODEL.HEADS.PAP", 0, "at least 1"),
        ("MODEL.HEADS.FUSION", "sum", r"one of \('hn', 'concat'\)"),
        ("MODEL.HEADS.POOLING", "max", r"one of \('average', 'gem'\)"),
        ("MODEL.HEADS.OUTPUT", "f_c", r"one of \('f_e', 'f_bn', 'f_r'\)"),
        ("MODEL.LOSSES.TRI.REDUCTION", "none", "one of .*mean.*sum"),
        ("MODEL.LOSSES.CC.TEMPERATURE", 0.0, "above 0"),
        ("SOLVER.AMP.DTYPE", "fp16", "one of .*auto.*bfloat16.*float16"),
        ("SOLVER.AMP.DTYPE", "float16", "'bfloat16' or 'auto' on the CPU"),
        ("SOLVER.IMS_PER_BATCH", 66, "multiple of DATALOADER.NUM_INSTANCE"),
        ("NPLP.SOURCE.IMS_PER_BATCH", 3, "multiple of NPLP.SOURCE.NUM_INSTANCE"),
        ("SEED", -1, "at least 0"),
        ("SOLVER.OPT", "Adamm", "a class of torch.optim"),
        ("DATALOADER.SAMPLER_TRAIN", "SetReWeightSampler", "one of"),
        ("NPLP.NOISY_FRACTION", 0.0, "must be in"),
        ("MODEL.DEVICE", "tpu", "'cpu' or 'cuda'"),
    ],
)
def test_values_out_of_range_are_named(defaults, key, value, rule):
    defaults.merge_from_list([key, value])
    with pytest.raises(UserError, match=rule) as caught:
        validate_config(defaults)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            ("NPLP.METHOD", "uda", "NPLP.SCORE_WEIGHT", True),
            "NPLP.SCORE_WEIGHT must be False with NPLP.METHOD 'uda', which has no",
        ),
        (
            ("NPLP.METHOD", "uda", "NPLP.SCORE_SAMPLING", True),
            "NPLP.SCORE_SAMPLING must be False with NPLP.METHOD 'uda', which has",
        ),
        (
            ("NPLP.SCORE_SAMPLING", True, "DATALOADER.SAMPLER_TRAIN", "CameraProxySampler"),
            "NPLP.SCORE_SAMPLING must be False with DATALOADER.SAMPLER_TRAIN 'CameraProxySampler'",
        ),
        (
            ("NPLP.CORRECTION_DISTANCE", "camera_jaccard", "NPLP.EPSILON_UPDATE", "first"),
            "NPLP.EPSILON_UPDATE must be 'iteration' with NPLP.CORRECTION_DISTANCE 'camera_jaccard'",
        ),
    ],
)
def test_keys_that_exclude_each_other_are_named(defaults, pairs, message):
    defaults.merge_from_list(list(pairs))
    with pytest.raises(UserError, match=message):
        validate_config(defaults)


def test_defaults_are_valid(defaults):
    validate_config(defaults)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("NPLP: {ALFA: 1}", "ALFA"),
        ("NPLP: [1, 2", "not YAML"),
        ("just text", "bad.yml"),
        ("_BASE_: nowhere.yml", "nowhere.yml"),
        ("NPLP: {ITERATIONS: many}", "ITERATIONS"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "bad.yml"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load_config(argparse.Namespace(config_file=str(path), opts=[]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pairs", [("NPLP.ALFA", "1"), ("NPLP.ALPHA",), ("NPLP.ITERATIONS", "many"), ("NPLP", "1")]
)
def test_bad_pairs_are_one_line(pairs):
    with pytest.raises(UserError) as caught:
        load("quickstart", *pairs)
    assert pairs[0] in str(caught.value)
    assert "\n" not in str(caught.value)
