"""What a user asks an adaptation for, and the configuration that this becomes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastreid.config import CfgNode
from tabulate import tabulate

from nplp.adapt.facts import look_at_images, look_at_machine
from nplp.adapt.methods import NPLP, NamedMethod, check_cameras, lay_over
from nplp.adapt.settings import Choice, choose_settings
from nplp.clustering.people import alpha_of
from nplp.config import default_config
from nplp.config.choices import OWN_IMAGES
from nplp.config.dotted import value_at
from nplp.config.validation import validate_config
from nplp.data.datasets import is_registered, load_test_sets, load_training_items
from nplp.data.items import Item
from nplp.data.own_dataset import own_image_table, tracks_of_items
from nplp.engine.setup import merge_pairs
from nplp.errors import UserError
from nplp.weights.source_models import SourceModel, recognise

__all__ = ["Plan", "Request", "describe_choices", "make_plan"]

SIZES = ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST")
RECOMMENDED = Choice(
    "method",
    {"NPLP.METHOD": NPLP},
    "gained most on real people: docs/what_we_found.md",
    "the paper's, with recommended additions",
)
WITHOUT_BATCH_NORMS = ("vit", "timm_vit", "vision_transformer")


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        images: a folder, a table, or the name of a registered data set.
        weights: the source model's file, or a bundle.
        output: the folder of the run.
        camera_pattern: as :func:`nplp.data.own_images.read_image_table` takes it.
        columns: "camera=cam_id" and the like, of a table.
        people: how many there are, by the user's guess; 0: unknown.
        skip_unreadable: leave out images that cannot be read, and say which, in place of an error.
        options: keys and values, in turn, that the user sets on top.
        method: one in place of the recommended settings; None: those.
    """

    images: str
    weights: str
    output: str
    camera_pattern: str = ""
    columns: Sequence[str] = ()
    people: int = 0
    skip_unreadable: bool = False
    options: Sequence[str] = ()
    method: NamedMethod | None = None


@dataclass(frozen=True)
class Plan:
    """A configuration, and where it comes from.

    Attributes:
        cfg: frozen and validated.
        choices: what was chosen, before the user's own options.
        source: the source model.
        items: the target's training images.
        tested: images that evaluations embed.
        unmeasured: why nothing is evaluated; empty where something is.
    """

    cfg: CfgNode
    choices: list[Choice]
    source: SourceModel
    items: list[Item] = field(repr=False)
    tested: int
    unmeasured: str = ""


def make_plan(request: Request) -> Plan:
    """Return the plan of an adaptation; the images' names and a sample of their headers are read.

    Raises:
        UserError: for images, weights or options that cannot be used.
    """
    source = recognise(request.weights)
    cfg = default_config()
    known = _of_source(source)
    _set(cfg, known)
    _set(cfg, _data_keys(request))
    cfg.NPLP.SOURCE.WEIGHTS = source.weights
    cfg.OUTPUT_DIR = request.output
    # Before the images are looked at, as some say which they are, and after the choices, which they change.
    merge_pairs(cfg, list(request.options))
    items = load_training_items(cfg, decoded=False)
    test_sets, unmeasured = _tests_of(cfg)
    cfg.DATASETS.TESTS = tuple(data.name for data in test_sets)
    cfg.NPLP.EVAL_PERIOD = 0
    tracks = tracks_of_items(cfg, items) if OWN_IMAGES in cfg.DATASETS.NAMES else None
    facts = look_at_images(items, bool(test_sets), tracks)
    batch_norms = not any(name in cfg.MODEL.BACKBONE.NAME for name in WITHOUT_BATCH_NORMS)
    method = request.method
    alpha = _alpha(request.people)
    choices = choose_settings(
        facts,
        look_at_machine(cfg.MODEL.DEVICE),
        batch_norms=batch_norms,
        additions=method is None,
        people=request.people,
    )
    for choice in [*choices, alpha]:
        _set(cfg, {key: value for key, value in choice.keys.items() if key not in known})
    if method is not None:
        choices = lay_over(cfg, method, choices, known, facts, source.own_head)
    else:
        choices.insert(0, RECOMMENDED)
    if cfg.NPLP.METHOD == NPLP:
        choices.append(alpha)
    elif request.people and method is not None:
        raise UserError(f"--people sets alpha, which --method {method.name} has not: leave --people out")
    merge_pairs(cfg, list(request.options))
    validate_config(cfg)
    if method is not None:
        check_cameras(cfg, method, facts)
    cfg.freeze()
    tested = sum(len(data.query) + len(data.gallery) for data in test_sets)
    return Plan(cfg, choices, source, items, tested, unmeasured)


def describe_choices(plan: Plan) -> str:
    """Return a table of the settings with their reasons; what the user set says so."""
    rows = []
    for choice in plan.choices:
        own = [key for key, value in choice.keys.items() if not _same(value_at(plan.cfg, key), value)]
        shown = choice.shown or str(next(iter(choice.keys.values())))
        reason = choice.reason
        if own:
            shown = _values_of(plan, own)
            reason = "as you set it" if not _fixed_by_source(plan, own) else "the source model's"
        rows.append([choice.name, shown, reason])
    return tabulate(rows, headers=["setting", "value", "why"], maxcolwidths=[None, 40, 50])


def _same(first: Any, second: Any) -> bool:
    return list(first) == list(second) if isinstance(first, list | tuple) else first == second


def _values_of(plan: Plan, keys: list[str]) -> str:
    """Return keys with their values; sizes alone where they are one and the same."""
    values = [value_at(plan.cfg, key) for key in keys]
    if set(keys) == set(SIZES) and values[0] == values[1]:
        return " x ".join(map(str, values[0]))
    return ", ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))


def _fixed_by_source(plan: Plan, keys: list[str]) -> bool:
    known = _of_source(plan.source)
    return all(key in known and _same(value_at(plan.cfg, key), known[key]) for key in keys)


def _of_source(source: SourceModel) -> dict[str, Any]:
    """Return the keys that the source model brings along; it is trained at the size at which it is tested."""
    known = dict(source.options)
    tested_at = known.get("INPUT.SIZE_TEST")
    return {**known, "INPUT.SIZE_TRAIN": tested_at} if tested_at else known


def _alpha(people: int) -> Choice:
    if people < 0 or people == 1:
        raise UserError(f"--people must be 2 or more, got {people}: leave it out where you have no guess")
    if people:
        return Choice(
            "alpha", {"NPLP.ALPHA": round(alpha_of(people), 6)}, f"0.9 / {people} people, by your guess"
        )
    reason = "nobody said how many people there are: from the clusters of each iteration"
    return Choice("alpha", {"NPLP.ALPHA": 0.0}, reason, "estimated")


def _data_keys(request: Request) -> dict[str, Any]:
    """Return the keys that name the target.

    Raises:
        UserError: if there is neither such a path nor such a data set.
    """
    common = {"DATASETS.SKIP_CORRUPT": True} if request.skip_unreadable else {}
    if os.path.exists(request.images):
        return {
            **common,
            "DATASETS.NAMES": (OWN_IMAGES,),
            "DATASETS.OWN.SOURCE": request.images,
            "DATASETS.OWN.CAMERA_PATTERN": request.camera_pattern,
            "DATASETS.OWN.COLUMNS": tuple(request.columns),
        }
    if not is_registered(request.images):
        raise UserError(
            f"--images {request.images!r} is no folder, no table and no registered data set: name one of them"
        )
    if request.camera_pattern or request.columns:
        raise UserError("--camera-pattern and --columns are for a folder or a table: leave them out")
    return {**common, "DATASETS.NAMES": (request.images,)}


def _tests_of(cfg: CfgNode) -> tuple[list[Any], str]:
    """Return the target's own query and gallery where it has both, or none and why."""
    cfg = cfg.clone()
    cfg.DATASETS.TESTS = cfg.DATASETS.NAMES
    if cfg.DATASETS.NAMES == (OWN_IMAGES,) and own_image_table(cfg).identities is None:
        return [], "no image has a known identity"
    try:
        return load_test_sets(cfg), ""
    except UserError as error:
        return [], str(error)


def _set(cfg: CfgNode, values: dict[str, Any]) -> None:
    for key, value in values.items():
        cfg.merge_from_list([key, value])
