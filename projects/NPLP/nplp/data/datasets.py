"""Data sets by name: the toolbox's benchmarks and the built-in synthetic domains, checked for people."""

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset
from fastreid.utils import comm

from nplp.compat.processes import from_main_process
from nplp.data.checks import verify_images
from nplp.data.items import UNKNOWN_IDENTITY, Item
from nplp.data.synthetic import DomainSpec, DomainStyle, default_cache_root, ensure_domain
from nplp.errors import UserError

__all__ = [
    "SYNTHETIC",
    "UNKNOWN_IDENTITY",
    "Item",
    "ReidData",
    "SynthCampus",
    "SynthPlaza",
    "SynthStation",
    "index_cameras",
    "load_dataset",
    "load_test_sets",
    "load_training_items",
    "verify_test_sets",
]

JUNK = -1
MARKET_NAME = re.compile(r"^(-?\d+)_c(\d+)")


@dataclass(frozen=True)
class ReidData:
    """One data set's items, each list sorted by path so that no machine's folder order matters."""

    name: str
    train: list[Item]
    query: list[Item]
    gallery: list[Item]


class _SyntheticDomain(ImageDataset):
    """A built-in synthetic domain: rendered once into the cache folder, read in Market-1501's layout."""

    domain = ""
    larger = 1
    """Times as many people and cameras as ``DATASETS.SYNTHETIC`` says."""

    def __init__(
        self, root: str = "", *, spec: DomainSpec | None = None, cache_root: str = "", **_: Any
    ) -> None:
        """Render the domain if the cache does not hold it yet.

        Args:
            root: the toolbox's data-set root; not used.
            spec: size, seed and style; the domain's usual ones where None.
            cache_root: the cache folder; empty: ``default_cache_root()``.
        """
        del root
        spec = spec or DomainSpec(name=self.domain)
        cache = Path(cache_root or default_cache_root())
        if comm.is_main_process():
            ensure_domain(spec, cache, progress=True)
        comm.synchronize()
        self.folder = ensure_domain(spec, cache)
        super().__init__(
            self._read("bounding_box_train", is_train=True),
            self._read("query"),
            self._read("bounding_box_test"),
        )

    def _read(self, subfolder: str, is_train: bool = False) -> list[Item]:
        items: list[Item] = []
        for path in sorted((self.folder / subfolder).glob("*.jpg")):
            identity, camera = (int(part) for part in MARKET_NAME.match(path.name).groups())  # type: ignore[union-attr]
            if identity == JUNK:
                continue
            prefix = f"synth{self.domain}_"
            key = (f"{prefix}{identity}", f"{prefix}{camera - 1}") if is_train else (identity, camera - 1)
            items.append((str(path), *key))
        return items


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


SYNTHETIC = (SynthPlaza.__name__, SynthStation.__name__, SynthCampus.__name__)
"""Names of the built-in domains."""


def load_dataset(cfg: CfgNode, name: str) -> ReidData:
    """Return the data set registered as ``name``, read from ``FASTREID_DATASETS`` (default ``datasets``).

    Raises:
        UserError: for an unknown name, a missing folder or file, file names that do not parse, or a
            training, query or gallery set without an image.
    """
    root = os.environ.get("FASTREID_DATASETS", "datasets")
    factory = _find(name)
    if isinstance(factory, type) and issubclass(factory, _SyntheticDomain):
        spec = _synthetic_spec(cfg, factory.domain, factory.larger)
        data = factory(spec=spec, cache_root=cfg.DATASETS.SYNTHETIC.ROOT)
        subsets = _subsets(data)
    else:
        subsets = _read_folders(factory, name, root)
    for subset, items in subsets.items():
        if not items:
            raise UserError(
                f"{name}: the {subset} set under {root!r} holds no image: "
                "see datasets/README.md for the layout"
            )
    return ReidData(name, **subsets)


def _subsets(data: Any) -> dict[str, list[Item]]:
    subsets = {subset: getattr(data, subset) for subset in ("train", "query", "gallery")}
    return {subset: sorted(items, key=lambda item: item[0]) for subset, items in subsets.items()}


def _read_folders(factory: Any, name: str, root: str) -> dict[str, list[Item]]:
    try:
        return _subsets(factory(root=root))
    except (RuntimeError, AssertionError, OSError) as error:
        raise UserError(_missing(name, root, error)) from error
    except (AttributeError, ValueError, IndexError) as error:
        raise UserError(
            f"{name}: a file name or list line under {root!r} does not follow the data set's naming "
            f"({error}): see datasets/README.md for the layout"
        ) from error


def load_test_sets(cfg: CfgNode) -> list[ReidData]:
    """Return the data sets of ``DATASETS.TESTS``, each of which can be evaluated.

    Raises:
        UserError: as :func:`load_dataset`, or if no query of a set has a match in another camera.
    """
    test_sets = [load_dataset(cfg, name) for name in cfg.DATASETS.TESTS]
    for data in test_sets:
        seen: dict[Any, set[Any]] = {}
        for _, identity, camera in data.gallery:
            seen.setdefault(identity, set()).add(camera)
        if not any(seen.get(identity, set()) - {camera} for _, identity, camera in data.query):
            raise UserError(
                f"{data.name}: none of the {len(data.query)} queries has an image of its identity in another "
                "camera of the gallery, so nothing can be evaluated: use another set in DATASETS.TESTS"
            )
    return test_sets


def load_training_items(cfg: CfgNode) -> list[Item]:
    """Return the training items of ``DATASETS.NAMES``, each image decoded once where ``VERIFY`` asks for it.

    Images that cannot be read are left out with ``SKIP_CORRUPT``.

    Raises:
        UserError: as :func:`load_dataset`, or if an image cannot be read, or none can.
    """
    if not cfg.DATASETS.NAMES:
        raise UserError("DATASETS.NAMES and NPLP.SOURCE.DATASETS must name one data set or more, got ()")
    items: list[Item] = []
    for name in cfg.DATASETS.NAMES:
        train = load_dataset(cfg, name).train
        if cfg.DATASETS.VERIFY or cfg.DATASETS.SKIP_CORRUPT:
            paths, skip = [item[0] for item in train], cfg.DATASETS.SKIP_CORRUPT
            bad = from_main_process(partial(verify_images, paths, f"{name}'s training set", skip=skip))
            train = [item for item in train if item[0] not in bad]
        items.extend(train)
    return items


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


def _synthetic_spec(cfg: CfgNode, domain: str, larger: int) -> DomainSpec:
    options = cfg.DATASETS.SYNTHETIC
    try:
        return DomainSpec(
            name=domain,
            train_identities=larger * options.TRAIN_IDENTITIES,
            test_identities=larger * options.TEST_IDENTITIES,
            images_per_identity=options.IMAGES_PER_IDENTITY,
            cameras=larger * options.CAMERAS,
            image_size=tuple(options.IMAGE_SIZE),
            seed=options.SEED,
            style=DomainStyle(**{key.lower(): value for key, value in options.STYLE.items()}),
        )
    except ValueError as error:
        raise UserError(f"DATASETS.SYNTHETIC: {error}") from error


def _missing(name: str, root: str, error: Exception) -> str:
    sought = re.search(r'"(.+)" is not found', str(error))
    where = repr(sought.group(1)) if sought else f"its folder under {root!r} ({error})"
    return (
        f"{name}: looked for {where}, which does not exist; FASTREID_DATASETS sets the folder that holds "
        f"the data sets (now {root!r}); `make quickstart` needs no data set"
    )


def index_cameras(items: list[Item]) -> np.ndarray:
    """Return the items' cameras as ``[N]`` int64 numbers, 0 to C - 1 in the sorted order of their names."""
    _, numbers = np.unique([str(camera) for _, _, camera in items], return_inverse=True)
    return numbers.astype(np.int64)
