"""Settings that a run would take and not follow: refused, or warned of, each by its name."""

import logging

import pytest
from fastreid.config import CfgNode, get_cfg

from nplp.config import add_nplp_config, ignored
from nplp.config.ignored import refuse_ignored, warn_of_ignored
from nplp.config.validation import validate_config
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from tiny import make_tiny_cfg

ESSENTIAL = {"MODEL.META_ARCHITECTURE": "NPLP", "MODEL.DEVICE": "cpu", "SOLVER.WARMUP_ITERS": 0}


def changed(**options):
    cfg = get_cfg()
    add_nplp_config(cfg)
    pairs = {**ESSENTIAL, **{key.replace("__", "."): value for key, value in options.items()}}
    cfg.merge_from_list([word for pair in pairs.items() for word in pair])
    return cfg


@pytest.fixture
def heard(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    return caplog


REFUSED = {
    "DATALOADER__SET_WEIGHT": [1, 2],
    "DATASETS__COMBINEALL": True,
    "INPUT__AFFINE__ENABLED": True,
    "INPUT__AUTOAUG__ENABLED": True,
    "INPUT__AUGMIX__ENABLED": True,
    "MODEL__FREEZE_LAYERS": ["backbone"],
    "SOLVER__FREEZE_ITERS": 100,
    "TEST__PRECISE_BN__ENABLED": True,
    "MODEL__BACKBONE__PRETRAIN_PATH": "resnet18.pth",
    "MODEL__HEADS__NORM": "IN",
    "MODEL__HEADS__CLS_LAYER": "ArcSoftmax",
    "MODEL__HEADS__NECK_FEAT": "after",
    "MODEL__HEADS__POOL_LAYER": "GeneralizedMeanPooling",
    "MODEL__HEADS__WITH_BNNECK": True,
    "MODEL__LOSSES__CE__EPSILON": 0.1,
    "MODEL__LOSSES__CE__SCALE": 2.0,
    "MODEL__LOSSES__TRI__NORM_FEAT": True,
    "MODEL__LOSSES__TRI__SCALE": 2.0,
    "SOLVER__MAX_EPOCH": 60,
    "SOLVER__SCHED": "StepLR",
}


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_what_would_change_results_is_refused(name, value):
    key = name.replace("__", ".")
    with pytest.raises(UserError) as caught:
        validate_config(changed(**{name: value}))
    assert key in str(caught.value)
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "option", "value"),
    [
        ("build_narrow_resnet_backbone", "WITH_IBN", True),
        ("build_narrow_resnet_backbone", "NORM", "GN"),
        ("build_resnest_backbone", "WITH_SE", True),
        ("build_osnet_backbone", "LAST_STRIDE", 2),
        ("build_vit_backbone", "WITH_NL", True),
    ],
)
def test_a_backbones_missing_options_are_refused(backbone, option, value):
    options = {"MODEL__BACKBONE__NAME": backbone, f"MODEL__BACKBONE__{option}": value}
    with pytest.raises(UserError, match=rf"MODEL\.BACKBONE\.{option} .*{backbone} has no such option"):
        refuse_ignored(changed(**options))
    refuse_ignored(changed(**{**options, "MODEL__BACKBONE__NAME": "build_own_backbone"}))


@pytest.mark.parametrize("name", [name for name in ignored.BACKBONE_OPTIONS if "narrow" not in name])
def test_backbones_follow_the_options_that_they_are_said_to(name):
    """By the text of the toolbox's builders."""
    import inspect

    from fastreid.modeling.backbones import BACKBONE_REGISTRY

    text = inspect.getsource(BACKBONE_REGISTRY.get(name))
    read = {option for option in ignored.LAYER_OPTIONS if f".{option}\n" in text or f".{option} " in text}
    assert read == set(ignored.BACKBONE_OPTIONS[name])


WARNED = {
    "SOLVER__CHECKPOINT_PERIOD": (5, "every epoch's end is saved"),
    "TEST__EVAL_PERIOD": (1, "set NPLP.EVAL_PERIOD"),
    "TEST__FLIP__ENABLED": (True, "pseudo-labels are made without"),
    "MODEL__LOSSES__FL__GAMMA": (3, "no such loss in NPLP"),
    "MODEL__LOSSES__CIRCLE__MARGIN": (0.3, "no such loss in NPLP"),
    "MODEL__LOSSES__COSFACE__SCALE": (2.0, "no such loss in NPLP"),
    "MODEL__LOSSES__CE__ALPHA": (0.3, "smooths no labels"),
    "MODEL__QUEUE_SIZE": (10, "no effect on MODEL.META_ARCHITECTURE NPLP"),
    "KD__EMA__ENABLED": (True, "no effect on MODEL.META_ARCHITECTURE NPLP"),
    "KD__MODEL_CONFIG": (["x.yml"], "no effect on MODEL.META_ARCHITECTURE NPLP"),
    "MODEL__BACKBONE__SIE_COE": (1.0, "no effect without build_vit_backbone"),
    "INPUT__FLIP__PROB": (0.9, "no effect while INPUT.FLIP.ENABLED is False"),
    "INPUT__REA__PROB": (0.9, "no effect while INPUT.REA.ENABLED is False"),
    "TEST__RERANK__K1": (30, "no effect while TEST.RERANK.ENABLED is False"),
    "TEST__RERANK_FORM": ("paper", "no effect while TEST.RERANK.ENABLED is False"),
    "SOLVER__CLIP_GRADIENTS__CLIP_VALUE": (1.0, "no effect while SOLVER.CLIP_GRADIENTS.ENABLED is False"),
    "NPLP__EMA_DECAY": (0.9, "no effect while NPLP.EMA is False"),
    "NPLP__STOP__MIN_ITERATIONS": (5, "no effect while NPLP.STOP.AGREEMENT is 0"),
    "SOLVER__WARMUP_FACTOR": (0.2, "no effect while SOLVER.WARMUP_ITERS is 0"),
    "SOLVER__ETA_MIN_LR": (0.1, "no effect while SOLVER.SCHED is not CosineAnnealingLR"),
    "SOLVER__NESTEROV": (True, "no effect while SOLVER.OPT is not SGD"),
}


@pytest.mark.parametrize(("name", "case"), WARNED.items())
def test_what_has_no_effect_is_warned_of(heard, name, case):
    value, reason = case
    cfg = changed(**{name: value})
    refuse_ignored(cfg)
    warn_of_ignored(cfg)
    (record,) = heard.records
    assert record.message.startswith(f"{name.replace('__', '.')} {value!r}: ")
    assert reason in record.message


def test_the_defaults_and_what_is_followed_are_silent(heard):
    switched_on = {"TEST__RERANK__ENABLED": True, "NPLP__EMA": True, "INPUT__AUGMIX__ENABLED": True}
    followed = {
        "TEST__RERANK__K1": 30,
        "TEST__RERANK_FORM": "paper",
        "NPLP__EMA_DECAY": 0.9,
        "INPUT__AUGMIX__PROB": 0.5,
    }
    others = {"MODEL__LOSSES__TRI__HARD_MINING": True, "DATALOADER__SAMPLER_TRAIN": "BalancedIdentitySampler"}
    cfg = changed(**switched_on, **followed, **others, SOLVER__OPT="SGD", SOLVER__NESTEROV=True)
    validate_config(cfg)
    for silent in (cfg, changed()):
        warn_of_ignored(silent)
    assert heard.records == []


def test_a_model_of_the_toolbox_is_warned_of_nplps_keys_in_a_line(heard):
    cfg = changed(MODEL__META_ARCHITECTURE="Baseline", NPLP__ALPHA=0.5, NPLP__BETA=0.4, SOLVER__MAX_EPOCH=60)
    cfg.merge_from_list(["MODEL.LOSSES.CE.EPSILON", 0.1, "MODEL.HEADS.WITH_BNNECK", True])
    validate_config(cfg)
    warn_of_ignored(cfg)
    (record,) = heard.records
    assert record.message == "NPLP.ALPHA 0.5, NPLP.BETA 0.4: only MODEL.META_ARCHITECTURE NPLP adapts"


def test_drawn_tracks_are_warned_of_where_the_target_has_a_table(heard):
    given = {"NPLP__TRACKS": "constrain", "DATASETS__SYNTHETIC_TRACKS__LENGTH": 4}
    warn_of_ignored(changed(DATASETS__NAMES="('SynthStation',)", **given))
    assert not heard.records
    warn_of_ignored(changed(DATASETS__NAMES="('OwnImages',)", **given))
    (record,) = heard.records
    said = "DATASETS.SYNTHETIC_TRACKS.LENGTH 4: no effect while OwnImages has the tracks of its table"
    assert record.message == said


def test_weights_in_two_places_are_warned_of(heard):
    warn_of_ignored(changed(MODEL__WEIGHTS="a.pth", NPLP__SOURCE__WEIGHTS="b.pth"))
    (record,) = heard.records
    assert record.message == "MODEL.WEIGHTS 'a.pth': adaptation starts from NPLP.SOURCE.WEIGHTS"


def test_a_run_is_refused_before_anything_is_written(synthetic_root, tmp_path):
    with pytest.raises(UserError, match=r"MODEL\.LOSSES\.CE\.EPSILON 0\.1 is not followed here"):
        make_tiny_cfg(synthetic_root, tmp_path / "refused", "MODEL.LOSSES.CE.EPSILON", 0.1)
    assert not (tmp_path / "refused").exists()


def paths_of(cfg, prefix=""):
    """Return the dotted keys of a configuration, and let each of its nodes know its name."""
    cfg.__dict__["named"] = prefix
    found = []
    for key, value in cfg.items():
        path = f"{prefix}.{key}" if prefix else key
        found += paths_of(value, path) if isinstance(value, CfgNode) else [path]
    return found


FOLLOWED_OTHERWISE = {
    "NPLP.SOURCE.": "taken over into SOLVER key by key",
    "DATASETS.SYNTHETIC.STYLE.": "handed over as a whole",
    "NPLP.EVAL_PERIOD": "not looked at where an evaluation is due anyway",
    "NPLP.RULES.": "looked at where a rule acts",
    "MODEL.BACKBONE.DEPTH": "the narrow network, which this run has, is of one depth",
    "MODEL.LOSSES.TRI.HARD_MINING": "eq. 1 mines hard ones, which is what True asks for",
}


def test_every_key_that_a_run_does_not_read_is_known_here(synthetic_root, tmp_path, monkeypatch, heard):
    pairs = {"NPLP.ITERATIONS": 2, "NPLP.STARTUP_ITERATIONS": 1, "NPLP.STEPS_PER_EPOCH": 1}
    pairs.update({"NPLP.EMA": True, "NPLP.SOURCE.MAX_EPOCH": 1, "TEST.EVAL_PERIOD": 7})
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *(word for pair in pairs.items() for word in pair))
    keys = set(paths_of(cfg))
    read = set()
    plain = next(base for base in CfgNode.__mro__ if "__getattr__" in vars(base))
    look_up = plain.__getattr__

    def record(node, name):
        if "named" in node.__dict__:
            read.add(f"{node.__dict__['named']}.{name}".removeprefix("."))
        return look_up(node, name)

    prepare_output(cfg)
    monkeypatch.setattr(plain, "__getattr__", record)
    run(cfg, cfg, resume=False)
    monkeypatch.undo()
    assert [record.message for record in heard.records].count("TEST.EVAL_PERIOD 7: set NPLP.EVAL_PERIOD") == 1
    unread = {key for key in keys - read if not key.startswith(tuple(FOLLOWED_OTHERWISE))}
    assert len(read & keys) > 80
    unknown = sorted(key for key in unread if not is_known(cfg, key))
    assert unknown == []


def is_known(cfg, key):
    """Tell whether a key with another value is refused or warned of."""
    cfg = cfg.clone()
    cfg.defrost()
    *sections, name = key.split(".")
    node = cfg
    for section in sections:
        node = node[section]
    value = node[name]
    node[name] = {bool: lambda: not value, str: lambda: value + "x"}.get(type(value), lambda: other(value))()
    return any(found.key == key for found in [*ignored._refused(cfg), *ignored._warned(cfg)])


def other(value):
    return value + 1 if isinstance(value, int | float) else [*value, 1]
