"""Every experiment of the paper, and the questions that its open points raise.

A row of a table is a `Setting`: how far training goes, and what differs from the direction's configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["DOMAINS", "EXPERIMENTS", "SCOPES", "Domain", "Experiment", "Setting"]

SOURCE, STARTUP, FULL = "source", "startup", "full"
"""How far a row's training goes: the source model, the startup stage alone, both stages."""

SCOPES = {
    **dict.fromkeys(("pap1", "pap2", "pap3", "pap4", "concat"), SOURCE),
    **dict.fromkeys(
        (
            "euclidean",
            "cc_literal",
            "cc_literal_no_update",
            "cc_no_update",
            "epsilon_first",
            "camera_centering",
            "averaged",
        ),
        STARTUP,
    ),
    **dict.fromkeys(("assessment_euclidean", "dissolved_keep"), FULL),
}
"""From which stage on a file of configs/NPLP/ablations changes a run: what comes before is shared."""

OPTION_SCOPES = {"NPLP.BETA": FULL}
"""The same for keys of the configuration; those not named change a run from the startup stage on."""


@dataclass(frozen=True)
class Setting:
    """A row.

    Attributes:
        label: the paper's name of it, or one like it.
        reach: "source", "startup" or "full".
        overlays: names of files in configs/NPLP/ablations.
        options: keys and values of the configuration.
        metrics: what of results.json counts; empty: that of the reach.
        seeds: how many it takes by default; 0: as many as its experiment.
        traced: whether it is run in one piece and keeps what its page is made from.
    """

    label: str
    reach: str
    overlays: tuple[str, ...] = ()
    options: tuple[tuple[str, object], ...] = ()
    metrics: str = ""
    seeds: int = 0
    traced: bool = False


@dataclass(frozen=True)
class Domain:
    """Where experiments run.

    Attributes:
        name: "synthetic" or "real".
        directions: configuration files by the paper's name of the direction.
        titles: what the directions are called here.
        sources: directions whose source model is that of another one, as they begin at the same data set.
    """

    name: str
    directions: dict[str, str]
    titles: dict[str, str]
    sources: dict[str, str] = field(default_factory=dict)


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
        figure: what is drawn: "iterations", "sensitivity", "map" or nothing.
    """

    name: str
    title: str
    rows: tuple[Setting, ...]
    directions: tuple[str, ...] = ("d2m", "m2d")
    published: str = ""
    seeds: int = 3
    figure: str = ""
    notes: Sequence[str] = field(default=())


SAME_SOURCE = {"m2msmt": "m2d", "d2msmt": "d2m"}

DOMAINS = {
    "synthetic": Domain(
        "synthetic",
        {
            "d2m": "configs/NPLP/reproduce/p2s.yml",
            "m2d": "configs/NPLP/reproduce/s2p.yml",
            "m2msmt": "configs/NPLP/reproduce/s2c.yml",
            "d2msmt": "configs/NPLP/reproduce/p2c.yml",
        },
        {
            "d2m": "SynthPlaza to SynthStation",
            "m2d": "SynthStation to SynthPlaza",
            "m2msmt": "SynthStation to SynthCampus",
            "d2msmt": "SynthPlaza to SynthCampus",
        },
        SAME_SOURCE,
    ),
    "real": Domain(
        "real",
        {name: f"configs/NPLP/{name}.yml" for name in ("d2m", "m2d", "m2msmt", "d2msmt")},
        {
            "d2m": "DukeMTMC-reID to Market-1501",
            "m2d": "Market-1501 to DukeMTMC-reID",
            "m2msmt": "Market-1501 to MSMT17",
            "d2msmt": "DukeMTMC-reID to MSMT17",
        },
        SAME_SOURCE,
    ),
}


def _stages(granularities: int, seeds: int = 0) -> tuple[Setting, Setting]:
    overlay = (f"pap{granularities}",)
    name = f"PAP-{granularities}"
    return (
        Setting(f"{name} w/ SS", STARTUP, overlay, seeds=seeds),
        Setting(f"{name} NPLP", FULL, overlay, seeds=seeds),
    )


def _corrections(suffix: str, overlays: tuple[str, ...]) -> tuple[Setting, ...]:
    """Return the rows that branch from one startup stage: without correction, and with two betas."""
    return (
        Setting(f"startup only{suffix}", STARTUP, overlays, LONG),
        *(
            Setting(f"correction, beta {beta:g}{suffix}", FULL, overlays, (*LONG, ("NPLP.BETA", beta)))
            for beta in (0.5, 0.8)
        ),
    )


PAP2 = ("pap2",)
LONG = (("NPLP.ITERATIONS", 30), ("NPLP.STARTUP_ITERATIONS", 15))
"""The paper's schedule."""
READINGS = {
    "Euclidean distance": "euclidean",
    "assessment by Euclidean distance": "assessment_euclidean",
    "literal loss (10)": "cc_literal",
    "literal loss, no update (11)": "cc_literal_no_update",
    "no update (11)": "cc_no_update",
    "epsilon of the first iteration": "epsilon_first",
    "dissolved clusters kept": "dissolved_keep",
    "camera centring": "camera_centering",
}
ALPHA_FACTORS = (0.25, 0.5, 1.0, 1.5, 2.0)
BETAS = (0.3, 0.5, 0.7, 0.9)


def _experiments() -> dict[str, Experiment]:
    both = _stages(2)
    found = (
        Experiment(
            "table1",
            "Table I: the stages and PAP-1 to PAP-4",
            (
                Setting("PAP-1 DT", SOURCE, ("pap1",)),
                *(row for i in range(1, 5) for row in _stages(i, 5 if i == 2 else 0)),
            ),
            published="table1",
        ),
        Experiment(
            "table2",
            "Table II: concatenation against the hyper-network",
            (Setting("PAP-2 w/DC", STARTUP, ("pap2", "concat")), Setting("PAP-2 w/HN", STARTUP, PAP2)),
            published="table2",
        ),
        Experiment(
            "table3",
            "Table III: beside other methods",
            (Setting("NPLP", FULL, PAP2),),
            published="table3",
        ),
        Experiment(
            "table4",
            "Table IV: MSMT17 as the target",
            (Setting("NPLP", FULL, PAP2),),
            directions=("m2msmt", "d2msmt"),
            published="table4",
        ),
        Experiment("fig3", "Fig. 3: performance by iteration", both, figure="iterations"),
        Experiment(
            "fig4",
            "Fig. 4: the features by stage",
            (Setting("PAP-2 NPLP", FULL, PAP2, traced=True),),
            ("d2m",),
            seeds=1,
            figure="map",
        ),
        Experiment(
            "fig5a",
            "Fig. 5(a): alpha, as a multiple of the configuration's",
            tuple(
                Setting(f"alpha x {factor:g}", STARTUP, PAP2, (("NPLP.ALPHA", factor),))
                for factor in ALPHA_FACTORS
            ),
            directions=("d2m",),
            figure="sensitivity",
        ),
        Experiment(
            "fig5b",
            "Fig. 5(b): beta",
            (
                *(Setting(f"beta {beta:g}", FULL, PAP2, (("NPLP.BETA", beta),)) for beta in BETAS),
                Setting("beta 1 (startup only)", STARTUP, PAP2),
            ),
            directions=("d2m",),
            figure="sensitivity",
        ),
        Experiment(
            "readings",
            "The readings of open points against their alternatives",
            (
                Setting("default", FULL, PAP2),
                *(Setting(label, FULL, ("pap2", overlay)) for label, overlay in READINGS.items()),
                Setting("averaged weights", FULL, ("pap2", "averaged"), metrics="final_ema"),
            ),
            directions=("d2m",),
        ),
        Experiment(
            "correction",
            "Does correction help, in the paper's schedule of 15 and 15 iterations",
            (*_corrections("", PAP2), *_corrections(", camera centring", (*PAP2, "camera_centering"))),
            directions=("d2m",),
            figure="iterations",
        ),
    )
    return {experiment.name: experiment for experiment in found}


EXPERIMENTS = _experiments()
