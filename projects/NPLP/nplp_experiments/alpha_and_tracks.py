"""What may be known of an unlabelled target: its number of people, and the tracks of its images."""

from collections.abc import Iterable
from dataclasses import replace

from nplp_experiments.definitions import PAP2, Experiment, Options, Setting
from nplp_experiments.methods import recommended

__all__ = ["on_alpha_and_tracks"]

TRAINED = "DATASETS.SYNTHETIC.TRAIN_IDENTITIES"
SIZES = {"a quarter of the people": 24, "the people": 96, "four times the people": 384}
"""People of the targets on which alpha is chosen; the campus draws twice as many."""
PEOPLE_TIMES_ALPHA = 0.9
"""Of the paper: 0.0012 for the 751 people of Market-1501."""
OWN_TIMES_ALPHA = 0.576
"""The same of the drawn tasks' configurations."""

LENGTHS = (4, 8, 16)
"""Images of a track at most."""
LONG_VISITS: Options = (
    (TRAINED, 24),
    ("DATASETS.SYNTHETIC.TEST_IDENTITIES", 48),
    ("DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY", 64),
    ("DATASETS.SYNTHETIC.CAMERAS", 3),
)
"""As many images as the drawn tasks have, but some 21 of a person in each camera."""
NEIGHBOURS: Options = (("NPLP.K1", 60), ("NPLP.K2", 18))
"""About as many as a person has images, as 20 are in the paper's data; 20 would be those of one camera."""
CONSTRAINED: Options = (("NPLP.TRACKS", "constrain"),)
USES: dict[str, Options] = {
    "averaged": (("NPLP.TRACKS", "average"),),
    "constrained": (*CONSTRAINED, ("DATASETS.SYNTHETIC_TRACKS.TIMES", False)),
    "constrained, with times": CONSTRAINED,
    "constrained, with times, 5% wrong": (*CONSTRAINED, ("DATASETS.SYNTHETIC_TRACKS.WRONG", 0.05)),
}


def on_alpha_and_tracks() -> tuple[Experiment, ...]:
    """Return what choosing alpha costs, and what tracks give."""
    sized = [row for size in SIZES.items() for row in _sized(*size)]
    return (
        _alpha("alpha", sized, ("p2s", "s2p", "p2c")),
        _alpha("alpha_real", _chosen_and_true("the people"), ("pku_methods",)),
        _tracks(),
    )


def _chosen_and_true(label: str, options: Options = (), factor: float = 1.0) -> tuple[Setting, Setting]:
    """Return a row with 0.9 / people, ``factor`` times the configuration's alpha, and one that chooses."""
    true = f"{label}, 0.9 / people"
    chosen = replace(recommended(true), label=f"{label}, chosen", options=options)
    given = (*options, ("NPLP.ALPHA", factor))
    return replace(chosen, label=true, overlays=(*PAP2, "plus"), options=given), chosen


def _sized(label: str, people: int) -> tuple[Setting, Setting]:
    """Return both rows for a drawn target of so many people, of which its configuration draws 96."""
    factor = PEOPLE_TIMES_ALPHA / OWN_TIMES_ALPHA * 96 / people
    return _chosen_and_true(label, ((TRAINED, people),), factor)


def _alpha(name: str, rows: Iterable[Setting], directions: tuple[str, ...]) -> Experiment:
    """Return alpha that is chosen from the features, beside that of the true number of people."""
    return Experiment(
        name,
        "Alpha chosen from the features, beside 0.9 / people",
        tuple(rows),
        directions,
        seeds=1,
        first_seed=2,
        lost=True,
        notes=(
            "nplp-plus on targets of several numbers of people: 24, 96 and 384 at the station and on the "
            "plaza, twice as many on the campus, 37 in PKU. The rule that chooses alpha was settled by the "
            "labels of features of the station, the campus and PKU's splits 0 to 2, before these runs.",
        ),
    )


def _tracks() -> Experiment:
    """Return uses of tracks beside each other."""
    few = replace(recommended("no tracks"), label="no tracks, k1 20", options=LONG_VISITS)
    chosen = replace(few, label="no tracks, k1 chosen", options=(*LONG_VISITS, ("NPLP.K1", 0)))
    none = replace(few, label="no tracks", options=(*LONG_VISITS, *NEIGHBOURS))
    return Experiment(
        "tracks",
        "What tracks of a tracker give",
        (
            few,
            chosen,
            none,
            *(
                replace(
                    none,
                    label=f"tracks of {length}, {use}",
                    options=(*none.options, *options, ("DATASETS.SYNTHETIC_TRACKS.LENGTH", length)),
                )
                for length in LENGTHS
                for use, options in USES.items()
            ),
        ),
        ("p2s",),
        seeds=1,
        first_seed=2,
        lost=True,
        notes=(
            "nplp-plus on 24 people of 64 images in three cameras; the test people are 48 others. k1 is 60, "
            "k2 18, but in the first two rows: the 20 nearest images of one are mostly its camera's. Tracks "
            "are at most so long; their times tell that two tracks of one camera at one time are two people.",
        ),
    )
