"""What INPUT.ON_DEVICE cannot do is refused by its name."""

import logging

import pytest

from nplp.config import default_config
from nplp.config.ignored import warn_of_ignored
from nplp.config.validation import ON_DEVICE, validate_config
from nplp.errors import UserError


def changed(*pairs):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "NPLP", "MODEL.DEVICE", "cpu", *pairs])
    return cfg


def test_it_is_off_by_default_and_every_other_section_is_refused():
    cfg = default_config()
    assert cfg.INPUT.ON_DEVICE is False
    sections = {name for name, section in cfg.INPUT.items() if isinstance(section, dict)}
    assert {*ON_DEVICE, *REFUSED} == sections


REFUSED = ("AUTOAUG", "CJ", "AUGMIX", "AFFINE", "RPT", "CROP")


@pytest.mark.parametrize("name", REFUSED)
def test_other_transformations_are_refused(name):
    cfg = changed("INPUT.ON_DEVICE", True, f"INPUT.{name}.ENABLED", True)
    with pytest.raises(UserError) as caught:
        validate_config(cfg)
    message = str(caught.value)
    assert message.startswith(f"INPUT.{name}.ENABLED must be False with INPUT.ON_DEVICE, ")
    assert message.endswith("alone, got True")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            ("INPUT.ON_DEVICE", True, "INPUT.PADDING.ENABLED", True, "INPUT.PADDING.MODE", "reflect"),
            "INPUT.PADDING.MODE must be 'constant' with INPUT.ON_DEVICE, got 'reflect'",
        ),
        (
            ("INPUT.ON_DEVICE", True, "INPUT.REA.ENABLED", True, "INPUT.REA.VALUE", [1.0, 2.0]),
            r"INPUT.REA.VALUE must be one number or three with INPUT.ON_DEVICE, got \[1.0, 2.0\]",
        ),
        (("DATALOADER.PREFETCH_FACTOR", 0), "DATALOADER.PREFETCH_FACTOR must be at least 1, got 0"),
    ],
)
def test_values_that_cannot_be_are_refused(pairs, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        validate_config(changed(*pairs))


def test_what_can_be_followed_is_taken():
    on = [word for name in ON_DEVICE for word in (f"INPUT.{name}.ENABLED", True)]
    validate_config(changed("INPUT.ON_DEVICE", True, *on))
    validate_config(changed("INPUT.ON_DEVICE", True, "INPUT.REA.VALUE", [1.0, 2.0]))
    validate_config(changed("INPUT.CJ.ENABLED", True))


def test_reading_ahead_without_workers_is_warned_of(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    ahead = ("DATALOADER.PREFETCH_FACTOR", 4)
    warn_of_ignored(changed(*ahead))
    assert caplog.records == []
    warn_of_ignored(changed(*ahead, "DATALOADER.NUM_WORKERS", 0))
    (record,) = caplog.records
    assert record.message == "DATALOADER.PREFETCH_FACTOR 4: no effect while DATALOADER.NUM_WORKERS is 0"
