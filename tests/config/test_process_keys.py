"""The keys about the processes of a run and the parts of a batch."""

import pytest

from nplp.config import default_config, source_config
from nplp.config.validation import validate_config
from nplp.errors import UserError


def changed(*pairs):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "NPLP", "MODEL.DEVICE", "cpu", *pairs])
    return cfg


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            ("NPLP.SAME_AT_ANY_WORLD_SIZE", True),
            "MODEL.NORM_CHUNK must be above 0 with NPLP.SAME_AT_ANY_WORLD_SIZE, .*, got 0",
        ),
        (("SOLVER.ACCUMULATE", 0), "SOLVER.ACCUMULATE must be at least 1, got 0"),
        (("NPLP.SOURCE.NORM_CHUNK", 1), r"NPLP.SOURCE.NORM_CHUNK must be 0 or .*\(128\) from 2 on, got 1"),
        (("NPLP.SOURCE.NORM_CHUNK", 24), r"NPLP.SOURCE.NORM_CHUNK must be 0 or .*\(128\) from 2 on, got 24"),
        (
            ("MODEL.META_ARCHITECTURE", "Baseline", "SOLVER.ACCUMULATE", 2),
            "SOLVER.ACCUMULATE 2 is not followed here, leave it out: only .* NPLP takes a batch in parts",
        ),
        (
            (
                "MODEL.META_ARCHITECTURE",
                "Baseline",
                "NPLP.SAME_AT_ANY_WORLD_SIZE",
                True,
                "MODEL.NORM_CHUNK",
                16,
            ),
            "NPLP.SAME_AT_ANY_WORLD_SIZE True is not followed here, .* NPLP takes losses of all processes",
        ),
    ],
)
def test_what_cannot_be_is_refused(pairs, message):
    with pytest.raises(UserError, match=f"^{message}"):
        validate_config(changed(*pairs))


def test_the_pre_training_has_chunks_of_its_own():
    cfg = changed("MODEL.NORM_CHUNK", 16, "NPLP.SOURCE.NORM_CHUNK", 64, "NPLP.SAME_AT_ANY_WORLD_SIZE", True)
    validate_config(cfg)
    assert source_config(cfg).MODEL.NORM_CHUNK == 64
