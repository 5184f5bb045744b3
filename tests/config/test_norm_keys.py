"""The keys about batch norms: what values they may have, and where they have no effect."""

import logging

import pytest

from nplp.config import default_config, source_config
from nplp.config.ignored import warn_of_ignored
from nplp.config.validation import validate_config
from nplp.errors import UserError


def changed(*pairs):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "NPLP", "MODEL.DEVICE", "cpu", *pairs])
    return cfg


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.NORM_CHUNK", 1, r"0 or a divisor of SOLVER\.IMS_PER_BATCH \(64\) from 2 on, got 1"),
        ("MODEL.NORM_CHUNK", -16, "from 2 on, got -16"),
        ("MODEL.NORM_CHUNK", 24, "from 2 on, got 24"),
        ("NPLP.NORM.IMAGES", 3, "0 or at least 4, got 3"),
        ("NPLP.NORM.IMAGES", -1, "0 or at least 4, got -1"),
        ("NPLP.NORM.BATCH", 3, "at least 4, got 3"),
    ],
)
def test_values_out_of_range_are_refused(key, value, message):
    with pytest.raises(UserError, match=rf"^{key} must be .*{message}$"):
        validate_config(changed(key, value))


def test_synchronised_norms_are_not_refreshed():
    cfg = changed("NPLP.NORM.REFRESH", True, "MODEL.BACKBONE.NORM", "syncBN")
    with pytest.raises(UserError, match=r"NPLP\.NORM\.REFRESH must be False with MODEL\.BACKBONE\.NORM"):
        validate_config(cfg)


def test_cameras_need_whole_batches():
    with pytest.raises(
        UserError, match=r"^MODEL\.NORM_CAMERAS must be False with MODEL\.NORM_CHUNK, got True$"
    ):
        validate_config(changed("MODEL.NORM_CAMERAS", True, "MODEL.NORM_CHUNK", 16))


def test_norms_by_camera_are_not_compiled():
    with pytest.raises(UserError, match=r"^MODEL\.COMPILE must be False with MODEL\.NORM_CAMERAS, got True$"):
        validate_config(changed("MODEL.NORM_CAMERAS", True, "MODEL.COMPILE", True))


def test_values_in_range_are_taken():
    validate_config(changed("MODEL.NORM_CHUNK", 16, "NPLP.NORM.REFRESH", True, "NPLP.NORM.IMAGES", 2000))


def test_pre_training_takes_the_whole_batch():
    model = source_config(changed("MODEL.NORM_CHUNK", 16, "MODEL.NORM_CAMERAS", True)).MODEL
    assert (model.NORM_CHUNK, model.NORM_CAMERAS) == (0, False)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (("NPLP.NORM.BATCH", 32), "NPLP.NORM.BATCH 32: no effect while NPLP.NORM.REFRESH is False"),
        (
            ("MODEL.NORM_CHUNK", 16, "MODEL.META_ARCHITECTURE", "Baseline"),
            "MODEL.NORM_CHUNK 16: only MODEL.META_ARCHITECTURE NPLP divides batches",
        ),
    ],
)
def test_what_has_no_effect_is_said(caplog, pairs, said):
    caplog.set_level(logging.WARNING)
    warn_of_ignored(changed(*pairs))
    assert said in caplog.messages
