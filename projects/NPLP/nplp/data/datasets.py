"""Data sets by name: the toolbox's benchmarks and the built-in synthetic domains, checked for people."""

import logging
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from nplp.data.benchmarks import BENCHMARKS, FOLDERS, MissingError, read_benchmark, read_folder
from nplp.data.checks import verify_images
from nplp.data.items import (
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
from nplp.data.pku import PKU_REID, read_pku_reid
from nplp.distributed.collectives import from_main_process
from nplp.errors import UserError, in_one_line
from nplp.evaluation.ranking import queries_without_match
from nplp_synthetic import DomainError, DomainSpec, DomainStyle, default_cache_root, ensure_domain

__all__ = [
    "SUBSETS",
    "SYNTHETIC",
    "UNKNOWN_IDENTITY",
    "Item",
    "ReidData",
    "SynthCampus",
    "SynthHarbour",
    "SynthPlaza",
    "SynthStation",
    "index_cameras",
    "index_identities",
    "load_dataset",
    "load_test_sets",
    "load_training_items",
    "queries_alone",
    "read_subsets",
    "verify_test_sets",
]

logger = logging.getLogger(__name__)

SUBSETS = ("train", "query", "gallery")


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


class _SyntheticDomain(ImageDataset):
    """A built-in synthetic domain: rendered once into the cache folder, read in Market-1501's layout."""

    domain = ""
    larger = 1
    """Times as many people and cameras as ``DATASETS.SYNTHETIC`` says."""
    own_style = False
    """Whether it keeps the style that ``nplp_synthetic.DOMAINS`` has for it, whatever
    ``DATASETS.SYNTHETIC.STYLE`` says."""

    def __init__(
        self, root: str = "", *, spec: DomainSpec | None = None, cache_root: str = "", **_: Any
    ) -> None:
        """Render the domain if the cache does not hold it yet.

        Args:
            root: the toolbox's data-set root; not used.
            spec: size, seed and style; the domain's usual ones where None.
            cache_root: the cache folder; empty: ``default_cache_root()``.

        Raises:
            UserError: if the domain cannot be kept there.
        """
        del root
        spec = spec or DomainSpec(name=self.domain)
        from_main_process(partial(_rendered, spec, cache_root, progress=True))
        self.folder = _rendered(spec, cache_root)
        self.subsets_read = {
            subset: read_folder(str(self.folder / FOLDERS[subset]), subset, f"synth{self.domain}")
            for subset in SUBSETS
        }
        super().__init__(*(self.subsets_read[subset].items for subset in SUBSETS))


@DATASET_REGISTRY.register()
class SynthPlaza(_SyntheticDomain):
    """The outdoor synthetic domain, the source of the built-in tasks."""

    domain = "plaza"


@DATASET_REGISTRY.register()
class SynthStation(_SyntheticDomain):
    """The indoor synthetic domain, the target of the built-in tasks."""

    domain = "station"


@DATASET_REGISTRY.register()
class SynthCampus(_SyntheticDomain):
    """The third synthetic domain, outdoors and indoors, with twice the people and cameras of the others."""

    domain = "campus"
    larger = 2


@DATASET_REGISTRY.register()
class PKUReid(ImageDataset):
    """PKU-Reid: half of its people to train on, half to evaluate on, as :func:`read_pku_reid` splits them."""

    def __init__(self, root: str = "datasets", *, split: int = 0, held_out: bool = True, **_: Any) -> None:
        """Read a task: see :func:`read_pku_reid`."""
        self.subsets_read = {
            subset: read_pku_reid(subset, root, split=split, held_out=held_out) for subset in SUBSETS
        }
        super().__init__(*(self.subsets_read[subset].items for subset in SUBSETS))


@DATASET_REGISTRY.register()
class SynthHarbour(_SyntheticDomain):
    """The unkind synthetic domain: strong cameras, people whom few of them see, many look-alikes."""

    domain = "harbour"
    own_style = True


SYNTHETIC = (SynthPlaza.__name__, SynthStation.__name__, SynthCampus.__name__, SynthHarbour.__name__)
"""Names of the built-in domains."""


def load_dataset(cfg: CfgNode, name: str, subsets: Sequence[str] = SUBSETS) -> ReidData:
    """Return the data set registered as ``name``, read from ``FASTREID_DATASETS`` (default ``datasets``).

    Says in one line a subset what was found and what was left out.

    Args:
        cfg: the configuration; ``DATASETS.SYNTHETIC`` and ``DATASETS.PKU`` are read.
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
        numbered[2]: name_of_camera(read[2], subsets_read[subset].camera_prefix, name)
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
    if isinstance(factory, type) and issubclass(factory, _SyntheticDomain):
        spec = _synthetic_spec(cfg, factory)
        data = factory(spec=spec, cache_root=cfg.DATASETS.SYNTHETIC.ROOT)
        return {subset: data.subsets_read[subset] for subset in subsets}
    if name in BENCHMARKS:
        return _where_it_should_be(partial(read_benchmark, name), name, subsets, root)
    if name == PKU_REID:
        task = partial(read_pku_reid, split=cfg.DATASETS.PKU.SPLIT, held_out=cfg.DATASETS.PKU.HELD_OUT)
        return _where_it_should_be(task, name, subsets, root)
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


def load_training_items(cfg: CfgNode, labelled: bool = False) -> list[Item]:
    """Return the training items of ``DATASETS.NAMES``, each image decoded once where ``VERIFY`` asks for it.

    Images that cannot be read are left out with ``SKIP_CORRUPT``.

    Args:
        cfg: the configuration.
        labelled: whether each image must show a known person, as for training with identities. If not, a set
            whose images all have the same one, as those who have none fill the field, has unknown ones.

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
        if cfg.DATASETS.VERIFY or cfg.DATASETS.SKIP_CORRUPT:
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


def _find(name: str) -> Any:
    try:
        return DATASET_REGISTRY.get(name)
    except KeyError as error:
        known = ", ".join((*SYNTHETIC, "Market1501", "DukeMTMC", "MSMT17"))
        raise UserError(
            f"unknown data set {name!r} in DATASETS or NPLP.SOURCE.DATASETS: use {known}"
        ) from error


def _rendered(spec: DomainSpec, cache_root: str, progress: bool = False) -> Path:
    """Return the folder of a synthetic domain, rendered where it was not yet.

    Raises:
        UserError: if it cannot be kept in ``cache_root``.
    """
    try:
        return ensure_domain(spec, Path(cache_root or default_cache_root()), progress=progress)
    except DomainError as error:
        raise UserError(str(error)) from error


def _synthetic_spec(cfg: CfgNode, factory: type[_SyntheticDomain]) -> DomainSpec:
    options, larger = cfg.DATASETS.SYNTHETIC, factory.larger
    try:
        style = DomainStyle(**{key.lower(): value for key, value in options.STYLE.items()})
        return DomainSpec(
            name=factory.domain,
            train_identities=larger * options.TRAIN_IDENTITIES,
            test_identities=larger * options.TEST_IDENTITIES,
            images_per_identity=options.IMAGES_PER_IDENTITY,
            cameras=larger * options.CAMERAS,
            image_size=tuple(options.IMAGE_SIZE),
            seed=options.SEED,
            style=None if factory.own_style else style,
        )
    except ValueError as error:
        raise UserError(f"DATASETS.SYNTHETIC: {error}") from error


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
