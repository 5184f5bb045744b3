"""Data sets by name: benchmarks, synthetic domains, own images and the toolbox's, checked for people."""

import logging
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from nplp.data.benchmarks import BENCHMARKS, MissingError, read_benchmark
from nplp.data.checks import verify_images
from nplp.data.items import (
    SUBSETS,
    UNKNOWN_IDENTITY,
    Item,
    Subset,
    common_prefix,
    describe,
    describe_left_out,
    name_of_camera,
    with_names,
    with_numbers,
)
from nplp.data.own_dataset import OWN_IMAGES, own_image_table, own_subsets
from nplp.data.pku import PKU_REID, read_pku_reid
from nplp.data.registered import SYNTHETIC, SyntheticDomain, synthetic_domain
from nplp.distributed.collectives import from_main_process
from nplp.errors import UserError, in_one_line
from nplp.evaluation.ranking import queries_without_match

__all__ = [
    "SUBSETS",
    "SYNTHETIC",
    "UNKNOWN_IDENTITY",
    "Item",
    "ReidData",
    "index_cameras",
    "index_identities",
    "is_registered",
    "load_dataset",
    "load_test_sets",
    "load_training_items",
    "queries_alone",
    "read_subsets",
    "verify_test_sets",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReidData:
    """One data set's items, each list sorted by path so that no machine's folder order matters.

    Attributes:
        name: of the toolbox's registry.
        camera_names: what the cameras of query and gallery, which are numbers there, are called in the
            training set.
    """

    name: str
    train: list[Item]
    query: list[Item]
    gallery: list[Item]
    camera_names: Mapping[int, str] = field(default_factory=dict)

    def camera_name(self, number: int) -> str:
        """Return a camera's name by its number in query and gallery."""
        return self.camera_names.get(number) or name_of_camera(number, "", self.name)


def load_dataset(cfg: CfgNode, name: str, subsets: Sequence[str] = SUBSETS) -> ReidData:
    """Return the data set registered as ``name``, read from ``FASTREID_DATASETS`` (default ``datasets``).

    Says in one line a subset what was found and what was left out.

    Args:
        cfg: the configuration; ``DATASETS.SYNTHETIC``, ``PKU`` and ``OWN`` are read.
        name: of the toolbox's registry.
        subsets: of :data:`SUBSETS`, those that are used. The others are empty; their files may be missing.

    Raises:
        UserError: for an unknown name, a missing folder or file, items that are none, or a subset without an
            image.
    """
    subsets_read = read_subsets(cfg, name, subsets)
    for subset, read in subsets_read.items():
        if not read.items:
            raise UserError(
                f"{name}: the {subset} set in {read.source} holds no image that can be used"
                f"{describe_left_out(read)}: see datasets/README.md for the layout"
            )
    items = {subset: read.items for subset, read in subsets_read.items()}
    if "train" in items:
        items["train"] = with_names(items["train"], name)
    testing = {subset: part for subset, part in items.items() if subset != "train"}
    items.update(with_numbers(testing, name))
    camera_names = {
        numbered[2]: subsets_read[subset].camera_name
        or name_of_camera(read[2], subsets_read[subset].camera_prefix, name)
        for subset, part in testing.items()
        for read, numbered in zip(part, items[subset], strict=True)
    }
    for subset, read in subsets_read.items():
        logger.info("%s", describe(name, subset, items[subset], read))
    parts = {subset: items.get(subset, []) for subset in SUBSETS}
    return ReidData(name, **parts, camera_names=camera_names)


def read_subsets(cfg: CfgNode, name: str, subsets: Sequence[str] = SUBSETS) -> dict[str, Subset]:
    """Return what is found of a data set, by subset, with identities and cameras as they are read.

    Args:
        cfg: as for :func:`load_dataset`.
        name: likewise.
        subsets: likewise.

    Raises:
        UserError: for an unknown name or a missing folder or file. A subset may be without an image.
    """
    root = os.environ.get("FASTREID_DATASETS", "datasets")
    factory = _find(name)
    if isinstance(factory, type) and issubclass(factory, SyntheticDomain):
        data = synthetic_domain(cfg, factory)
        return {subset: data.subsets_read[subset] for subset in subsets}
    if name in BENCHMARKS:
        return _where_it_should_be(partial(read_benchmark, name), name, subsets, root)
    if name == PKU_REID:
        task = partial(read_pku_reid, split=cfg.DATASETS.PKU.SPLIT, held_out=cfg.DATASETS.PKU.HELD_OUT)
        return _where_it_should_be(task, name, subsets, root)
    if name == OWN_IMAGES:
        return own_subsets(own_image_table(cfg), subsets)
    return _read_registered(factory, name, subsets, root)


def _where_it_should_be(
    read: Callable[[str, str], Subset], name: str, subsets: Sequence[str], root: str
) -> dict[str, Subset]:
    """Return subsets by a reader of this project.

    Raises:
        UserError: if what it looks for is not there.
    """
    try:
        return {subset: read(subset, root) for subset in subsets}
    except MissingError as error:
        raise UserError(_missing(name, root, repr(str(error)))) from error


def _read_registered(factory: Any, name: str, subsets: Sequence[str], root: str) -> dict[str, Subset]:
    """Read a data set by its own class, whatever that may raise."""
    try:
        data = factory(root=root)
        rows = getattr(data, "train", ())
        prefix = common_prefix(row[-1] for row in rows if isinstance(row, list | tuple) and row)
        return {subset: _items_of(getattr(data, subset), root, prefix) for subset in subsets}
    except UserError:
        raise
    except Exception as error:
        sought = re.search(r'"(.+)" is not found', str(error))
        if isinstance(error, FileNotFoundError) or sought:
            where = sought[1] if sought else getattr(error, "filename", None) or str(error)
            raise UserError(_missing(name, root, repr(where))) from error
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{name}: {factory.__module__}.{factory.__qualname__} cannot read its images under {root!r} "
            f"({type(error).__name__} in {place.filename}:{place.lineno}: {in_one_line(error, 500)}): "
            "see there what it expects"
        ) from error


def _items_of(rows: Any, root: str, camera_prefix: str) -> Subset:
    items = [(os.fspath(path), identity, camera) for path, identity, camera in rows]
    return Subset(sorted(items, key=lambda item: item[0]), source=repr(root), camera_prefix=camera_prefix)


def load_test_sets(cfg: CfgNode, optional: bool = False) -> list[ReidData]:
    """Return the query and gallery sets of ``DATASETS.TESTS``, each of which can be evaluated.

    Args:
        cfg: the configuration.
        optional: whether there may be none.

    Raises:
        UserError: as :func:`load_dataset`, if no query of a set has a match in another camera, or if no set
            is named where one is needed.
    """
    if not cfg.DATASETS.TESTS:
        if not optional:
            raise UserError("DATASETS.TESTS names no data set to evaluate on, got (): name one, or more")
        logger.info("DATASETS.TESTS names no data set: nothing is evaluated")
    test_sets = [load_dataset(cfg, name, ("query", "gallery")) for name in cfg.DATASETS.TESTS]
    for data in test_sets:
        if len(queries_alone(data)) == len(data.query):
            raise UserError(
                f"{data.name}: none of the {len(data.query)} queries has an image of its identity in another "
                "camera of the gallery, so nothing can be evaluated: use another set in DATASETS.TESTS"
            )
    return test_sets


def queries_alone(data: ReidData) -> np.ndarray:
    """Return the numbers of the queries without a match in another camera of the gallery."""
    items = data.query + data.gallery
    numbers = [np.unique([str(item[place]) for item in items], return_inverse=True)[1] for place in (1, 2)]
    (query_ids, gallery_ids), (query_cameras, gallery_cameras) = (
        np.split(each, [len(data.query)]) for each in numbers
    )
    return queries_without_match(query_ids, gallery_ids, query_cameras, gallery_cameras)


def load_training_items(cfg: CfgNode, labelled: bool = False, *, decoded: bool = True) -> list[Item]:
    """Return the training items of ``DATASETS.NAMES``, each image decoded once where ``VERIFY`` asks for it.

    Images that cannot be read are left out with ``SKIP_CORRUPT``.

    Args:
        cfg: the configuration.
        labelled: whether each image must show a known person, as for training with identities. If not, a set
            whose images all have the same one, as those who have none fill the field, has unknown ones.
        decoded: if not, no image is opened, whatever ``VERIFY`` and ``SKIP_CORRUPT`` say.

    Raises:
        UserError: as :func:`load_dataset`, or if an image cannot be read, or none can, or if people are
            unknown who must not be.
    """
    if not cfg.DATASETS.NAMES:
        raise UserError("DATASETS.NAMES and NPLP.SOURCE.DATASETS must name one data set or more, got ()")
    items: list[Item] = []
    for name in cfg.DATASETS.NAMES:
        train = load_dataset(cfg, name, ("train",)).train
        if labelled:
            _check_known(name, train)
        if decoded and (cfg.DATASETS.VERIFY or cfg.DATASETS.SKIP_CORRUPT):
            paths, skip = [item[0] for item in train], cfg.DATASETS.SKIP_CORRUPT
            bad = from_main_process(partial(verify_images, paths, f"{name}'s training set", skip=skip))
            train = [item for item in train if item[0] not in bad]
        items.extend(train if labelled else _without_constant_identity(train, name))
    return items


def _without_constant_identity(items: list[Item], name: str) -> list[Item]:
    """Return items with unknown identities where all have one and the same."""
    identities = {str(item[1]) for item in items}
    if len(identities) != 1 or UNKNOWN_IDENTITY in identities:
        return items
    logger.warning(
        "%s: all %d training images have the identity %r, which is taken for unknown: nothing can be said of "
        "precision and recall",
        name,
        len(items),
        *identities,
    )
    return [(path, UNKNOWN_IDENTITY, camera) for path, _, camera in items]


def _check_known(name: str, items: list[Item]) -> None:
    unknown = [path for path, identity, _ in items if identity == UNKNOWN_IDENTITY]
    if unknown:
        raise UserError(
            f"{name}: {len(unknown)} of {len(items)} training images have no identity (-1), first "
            f"{unknown[0]!r}: training with identities needs all of them; remove these images or use "
            "another source"
        )


def verify_test_sets(cfg: CfgNode, test_sets: list[ReidData]) -> None:
    """Decode every query and gallery image once where ``DATASETS.VERIFY`` asks for it.

    None is left out, as that would change what the figures mean.

    Raises:
        UserError: if one cannot be read.
    """
    if not cfg.DATASETS.VERIFY:
        return
    for data in test_sets:
        paths = [item[0] for item in data.query + data.gallery]
        what = f"{data.name}'s query and gallery"
        from_main_process(partial(verify_images, paths, what, skippable=False))


def is_registered(name: str) -> bool:
    """Return whether the toolbox's registry has a data set of that name."""
    try:
        DATASET_REGISTRY.get(name)
    except KeyError:
        return False
    return True


def _find(name: str) -> Any:
    try:
        return DATASET_REGISTRY.get(name)
    except KeyError as error:
        known = ", ".join((*SYNTHETIC, "Market1501", "DukeMTMC", "MSMT17"))
        raise UserError(
            f"unknown data set {name!r} in DATASETS or NPLP.SOURCE.DATASETS: use {known}"
        ) from error


def _missing(name: str, root: str, where: str) -> str:
    return (
        f"{name}: looked for {where}, which does not exist; FASTREID_DATASETS sets the folder that holds "
        f"the data sets (now {root!r}); `make quickstart` needs no data set"
    )


def index_cameras(items: list[Item]) -> np.ndarray:
    """Return the items' cameras as ``[N]`` int64 numbers, 0 to C - 1 in the sorted order of their names."""
    _, numbers = np.unique([str(camera) for _, _, camera in items], return_inverse=True)
    return numbers.astype(np.int64)


def index_identities(items: list[Item]) -> np.ndarray | None:
    """Return the items' identities as ``[N]`` int64 numbers, -1 where unknown; ``None`` where all are.

    Known ones are 0 to P - 1 in the sorted order of their names.
    """
    names = np.array([str(identity) for _, identity, _ in items])
    known = names != UNKNOWN_IDENTITY
    if not known.any():
        return None
    numbers = np.full(len(items), -1, dtype=np.int64)
    numbers[known] = np.unique(names[known], return_inverse=True)[1]
    return numbers
