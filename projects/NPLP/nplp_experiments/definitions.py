"""What an experiment is made of.

A row of a table is a `Setting`: how far training goes, and what differs from the direction's configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "FULL",
    "METHOD",
    "MULTIPLES",
    "OPTION_SCOPES",
    "PAP2",
    "PAPER",
    "SCOPES",
    "SOURCE",
    "STARTUP",
    "Domain",
    "Experiment",
    "Form",
    "Options",
    "Setting",
    "scope_of",
]

SOURCE, STARTUP, FULL = "source", "startup", "full"
"""How far a row's training goes: the source model, the startup stage alone, both stages."""

SCOPES = {
    **dict.fromkeys(("pap1", "pap2", "pap3", "pap4", "concat", "neck"), SOURCE),
    **dict.fromkeys(
        (
            "euclidean",
            "cc_literal",
            "cc_literal_no_update",
            "cc_no_update",
            "epsilon_first",
            "camera_centering",
            "averaged",
            "averaged_labels",
            "camera_means",
            "camera_proxies",
            "norm_cameras",
            "plus",
        ),
        STARTUP,
    ),
    **dict.fromkeys(("assessment_euclidean", "dissolved_keep", "outliers_rejoin"), FULL),
}
"""From which stage on a file of configs/NPLP/ablations changes a run: what comes before is shared."""

METHOD = "methods/"
"""What begins the name of a file of configs/methods/overlays, which change a run from startup on."""

OPTION_SCOPES = {
    "MODEL.HEADS.EMBEDDING_DIM": SOURCE,
    **dict.fromkeys(
        (
            "NPLP.BETA",
            "NPLP.CORRECTION_DISTANCE",
            "NPLP.NOISY",
            "NPLP.NOISY_FRACTION",
            "NPLP.SCORE_SAMPLING",
            "NPLP.SCORE_WEIGHT",
        ),
        FULL,
    ),
}
"""The same for keys of the configuration; those not named change a run from the startup stage on."""

MULTIPLES = {"NPLP.ALPHA": float, "MODEL.HEADS.EMBEDDING_DIM": int}
"""Keys whose values in an experiment are multiples of the configuration's, and their types."""


Options = tuple[tuple[str, object], ...]
"""Keys and values of the configuration."""
Form = tuple[tuple[str, ...], Options]
"""What a row adds to others: overlays, as in a :class:`Setting`, and options."""

PAP2 = ("pap2",)
"""The overlays of the paper's own network."""

PAPER = ("d2m", "m2d", "m2msmt", "d2msmt")
"""The paper's directions."""


@dataclass(frozen=True)
class Setting:
    """A row.

    Attributes:
        label: the paper's name of it, or one like it.
        reach: "source", "startup" or "full".
        overlays: names of files in configs/NPLP/ablations, or in configs/methods/overlays after
            :data:`METHOD`.
        options: keys and values of the configuration; those in :data:`MULTIPLES` as multiples of its own.
        metrics: the stage of results.json whose metrics count; empty: that of the reach.
        seeds: how many it takes by default; 0: as many as its experiment.
        against: label of the row that it is compared with; empty: the experiment's first.
        whole: whether it is run in one piece, as no other row shares its startup stage.
        pooled: a name; the differences of all rows of one name are also averaged together.
        traced: whether the run keeps the data of its page; such a run is in one piece, too.
    """

    label: str
    reach: str
    overlays: tuple[str, ...] = ()
    options: Options = ()
    metrics: str = ""
    seeds: int = 0
    against: str = ""
    whole: bool = False
    pooled: str = ""
    traced: bool = False


@dataclass(frozen=True)
class Domain:
    """Where experiments run.

    Attributes:
        name: "synthetic", "real" or "pku".
        directions: configuration files by the paper's name of the direction, or the task's own.
        titles: what the directions are called here.
        sources: directions whose source model is that of another one, as they begin at the same data set.
        seed_keys: keys of the configuration that a run's seed goes to.
        pretrains: whether source models are trained; if not, they are files that the configurations name.
    """

    name: str
    directions: dict[str, str]
    titles: dict[str, str]
    sources: dict[str, str] = field(default_factory=dict)
    seed_keys: tuple[str, ...] = ("SEED",)
    pretrains: bool = True


@dataclass(frozen=True)
class Experiment:
    """A table or a figure.

    Attributes:
        name: on the command line.
        title: what it asks.
        rows: its settings.
        directions: the paper's names of the directions that it needs.
        published: the table of published.yml whose numbers stand beside; empty: none.
        seeds: how many it takes by default.
        first_seed: where these begin.
        figure: what is drawn: "iterations", "sensitivity", "map" or nothing.
        lost: whether it shows what runs lose after their best iteration.
        timed: whether it shows the seconds of an iteration by stage.
        notes: paragraphs at the top of its page.
    """

    name: str
    title: str
    rows: tuple[Setting, ...]
    directions: tuple[str, ...] = ("d2m", "m2d")
    published: str = ""
    seeds: int = 3
    first_seed: int = 0
    figure: str = ""
    lost: bool = False
    timed: bool = False
    notes: Sequence[str] = field(default=())


def scope_of(overlay: str) -> str:
    """Return from which stage on a file changes a run, by its name in a :class:`Setting`."""
    return STARTUP if overlay.startswith(METHOD) else SCOPES[overlay]
