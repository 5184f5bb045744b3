"""The methods beside each other, and how the recommended one was chosen."""

from collections.abc import Iterable
from dataclasses import replace

from nplp_experiments.definitions import FULL, PAP2, STARTUP, Experiment, Form, Options, Setting

__all__ = ["METHODS", "on_methods", "recommended"]

NECK, CONCATENATED = ("neck",), (*PAP2, "concat")
METHODS: dict[str, Form] = {
    "uda": (NECK, ()),
    "ssg": (CONCATENATED, ()),
    "mmt": (NECK, ()),
    "memory": (NECK, (("NPLP.MEMORY.K1", 20), ("NPLP.MEMORY.EPSILON", 0.5))),
    "cluster_contrast": (NECK, (("NPLP.MEMORY.K1", 20), ("NPLP.MEMORY.EPSILON", 0.5))),
    "spcl": (NECK, (("NPLP.SPCL.K1", 20), ("NPLP.SPCL.EPSILON", 0.5))),
    "cap": (NECK, ()),
    "o2cap": (NECK, ()),
    "pplr": (NECK, (("NPLP.PPLR.K1", 20),)),
}
"""Methods of others by name: the head that their source model is trained with, and options.

K1 is 20 for all, as in the paper: a person of these targets has 16 images, and among 30 neighbours each
image has others. The radius of those whose authors take 0.6 is 0.5, as CAP, O2CAP and PPLR have it: with 0.6
two thirds of PKU's development split are one cluster at first.
"""

ON_REAL_PEOPLE = ("uda", "ssg", "memory", "cap", "o2cap", "pplr")
"""Those that were run there: not `mmt`, which takes three times as long, `spcl` and `cluster_contrast`."""
STEPPED: Options = (("SOLVER.STEPS", "[2,3]"),)
"""The rate falls to a tenth after 0.4 and 0.8 of the training, by the nearest of four iterations."""
NORMS: Options = (("MODEL.NORM_CHUNK", 16),)
"""Batch norms over 16 images, as on four GPUs."""
LARGE: Options = (
    ("SOLVER.IMS_PER_BATCH", 256),
    ("DATALOADER.NUM_INSTANCE", 16),
    ("NPLP.STEPS_PER_EPOCH", 25),
    *STEPPED,
)
"""Batches of 16 x 16 images: the cluster memory's."""
SLOW: Options = (
    ("SOLVER.OPT", "SGD"),
    ("SOLVER.BASE_LR", 0.00006),
    ("SOLVER.IMS_PER_BATCH", 128),
    ("NPLP.STEPS_PER_EPOCH", 50),
    ("INPUT.PADDING.ENABLED", False),
)
"""Batches of 32 x 4 at a small rate, flipped and erased alone: that of UDA and SSG."""
SMALL: Options = (
    ("SOLVER.IMS_PER_BATCH", 32),
    ("NPLP.STEPS_PER_EPOCH", 200),
    ("SOLVER.WARMUP_ITERS", 160),
    ("SOLVER.WARMUP_FACTOR", 0.01),
    *STEPPED,
)
"""Batches of 8 x 4, and a rate that rises over the first fifth: that of CAP and O2CAP."""
OF_AUTHORS: dict[str, Options] = {
    "nplp": (("SOLVER.OPT", "SGD"), ("SOLVER.BASE_LR", 0.0012)),
    "uda": (*SLOW, ("SOLVER.WEIGHT_DECAY", 0.0), ("SOLVER.WEIGHT_DECAY_BIAS", 0.0)),
    "ssg": SLOW,
    "mmt": NORMS,
    "memory": LARGE,
    "cluster_contrast": LARGE,
    "spcl": (*NORMS, *STEPPED),
    "cap": SMALL,
    "o2cap": SMALL,
    "pplr": (*NORMS, *STEPPED),
}
"""What configs/methods has and the common footing has not: optimiser, batch, schedule.

K1 and the radius are those of the overlays, which are the authors' too. The number of images seen stays, and
with it the share of the training that a warm-up or a rate takes: a batch of 256 has 25 steps an iteration.
"""
CAMERAS, PROXIES = "methods/cameras", "methods/proxies"
TREATED: dict[str, Form] = {
    "memory": ((CAMERAS,), ()),
    "memory, camera proxies": ((PROXIES, CAMERAS), ()),
    "cap": ((CAMERAS,), ()),
    "o2cap": ((CAMERAS,), ()),
    "memory, camera proxies, radius 0.4": ((PROXIES, CAMERAS), (("NPLP.MEMORY.EPSILON", 0.4),)),
    "cap, radius 0.4": ((CAMERAS,), (("NPLP.CAP.EPSILON", 0.4),)),
}
"""Candidates for the recommended method: a method's name, what is laid over its overlay, and options."""
ALPHAS = {"the target's alpha": 1.0, "1.5 times it": 1.5, "twice it": 2.0}
"""Candidates that are nplp-plus with an alpha that is given: multiples of the configuration's."""


def on_methods() -> tuple[Experiment, ...]:
    """Return the comparison of all methods, and what was tried to find the recommended one."""
    real = "Methods on one footing, on real people"
    return (
        _comparison("methods", "Every method on one footing", METHODS, ("p2s", "s2p", "p2c"), 5),
        _comparison("methods_real", real, ON_REAL_PEOPLE, ("pku_methods",), 5),
        _by_authors(),
        _candidates(),
    )


def _row(label: str, name: str, more: Form, against: str, metrics: str = "") -> Setting:
    """Return the row of a method of others with further overlays and options."""
    head, options = METHODS[name]
    merged = tuple({**dict(options), **dict(more[1])}.items())
    overlays = (*head, f"methods/{name}", *more[0])
    return Setting(label, STARTUP, overlays, merged, metrics, against=against, whole=True)


def _paper() -> Setting:
    """Return the row of the paper's method."""
    return Setting("nplp", FULL, (*PAP2, "methods/nplp"), whole=True)


def recommended(against: str) -> Setting:
    """Return the row of the recommended method."""
    overlays = (*PAP2, "methods/nplp-plus")
    return Setting("nplp-plus", STARTUP, overlays, metrics="final_ema", against=against, whole=True)


def _comparison(
    name: str, title: str, methods: Iterable[str], directions: tuple[str, ...], seeds: int
) -> Experiment:
    """Return methods beside each other; no row chooses its iteration by true identities."""
    return Experiment(
        name,
        title,
        (
            Setting("direct transfer", FULL, (*PAP2, "methods/nplp"), metrics="direct_transfer", whole=True),
            _paper(),
            *(_row(name, name, ((), ()), "nplp") for name in methods),
            recommended("nplp"),
        ),
        directions,
        seeds=seeds,
        first_seed=2,
        lost=True,
        timed=True,
        notes=(
            "One footing: the same source model but for the head, batch, optimiser, rate, augmentation and "
            "number of images seen; the last iteration counts, and what the best by true identities would "
            "have given is in the column of what was lost. Authors train for some ten times as long with "
            "batches up to 256: configs/methods holds their recipes.",
        ),
    )


def _by_authors() -> Experiment:
    """Return each method as on the common footing, and below it with its authors' values."""
    rows = []
    for name, options in OF_AUTHORS.items():
        row = _row(name, name, ((), ()), "nplp") if name in METHODS else _paper()
        rows += [row, replace(row, label=f"{name}, its authors' values", options=options, against=name)]
    return Experiment(
        "methods_by_authors",
        "Each method on the common footing and with its authors' values",
        tuple(rows),
        ("p2s", "s2p"),
        seeds=1,
        first_seed=6,
        lost=True,
        notes=(
            "Optimiser, batch, schedule, k1 and radius as in configs/methods; source model, network, size of "
            "images and the number of images seen are those of the common footing, which is a tenth of what "
            "authors train for.",
        ),
    )


def _candidates() -> Experiment:
    """Return the rows that the recommended method was chosen from, on development tasks alone."""
    return Experiment(
        "methods_development",
        "What the recommended method was chosen from",
        (
            recommended("nplp-plus"),
            *(
                replace(
                    recommended("nplp-plus"),
                    label=f"nplp-plus, {label}",
                    overlays=(*PAP2, "plus"),
                    options=(("NPLP.ALPHA", by),),
                )
                for label, by in ALPHAS.items()
            ),
            *(
                _row(f"{label}, cameras treated", label.split(",")[0], more, "nplp-plus", "final_ema")
                for label, more in TREATED.items()
            ),
        ),
        ("p2s", "s2p"),
        seeds=1,
        lost=True,
        notes=(
            "Development tasks, named before anything was run: plaza to station and back, and PKU's splits 0 "
            "and 1; split 0 was looked at. Plaza to campus and PKU's other splits had no part in it.",
        ),
    )
