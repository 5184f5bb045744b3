"""The data sets that this project adds to the toolbox's registry."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from nplp.config.own_images import parse_columns
from nplp.data.benchmarks import FOLDERS, read_folder
from nplp.data.items import SUBSETS
from nplp.data.own_dataset import own_subsets
from nplp.data.own_images import read_image_table
from nplp.data.pku import read_pku_reid
from nplp.distributed.collectives import from_main_process
from nplp.errors import UserError
from nplp_synthetic import DomainError, DomainSpec, DomainStyle, default_cache_root, ensure_domain

__all__ = [
    "SYNTHETIC",
    "OwnImages",
    "PKUReid",
    "SynthCampus",
    "SynthHarbour",
    "SynthPlaza",
    "SynthStation",
    "SyntheticDomain",
    "synthetic_domain",
    "synthetic_images",
]


class SyntheticDomain(ImageDataset):
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
class SynthPlaza(SyntheticDomain):
    """The outdoor synthetic domain, the source of the built-in tasks."""

    domain = "plaza"


@DATASET_REGISTRY.register()
class SynthStation(SyntheticDomain):
    """The indoor synthetic domain, the target of the built-in tasks."""

    domain = "station"


@DATASET_REGISTRY.register()
class SynthCampus(SyntheticDomain):
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
class SynthHarbour(SyntheticDomain):
    """The unkind synthetic domain: strong cameras, people whom few of them see, many look-alikes."""

    domain = "harbour"
    own_style = True


@DATASET_REGISTRY.register()
class OwnImages(ImageDataset):
    """Own images in a folder or a table, as ``DATASETS.OWN`` describes them in a configuration."""

    def __init__(
        self,
        root: str = "",
        *,
        source: str = "",
        camera_pattern: str = "",
        columns: Sequence[str] = (),
        subsets: Sequence[str] = ("train",),
        **_: Any,
    ) -> None:
        """Read them: see :func:`nplp.data.own_images.read_image_table`.

        Args:
            root: the toolbox's data-set root; not used.
            source: a folder or a table.
            camera_pattern: of a folder's images.
            columns: texts such as ``camera=cam_id``.
            subsets: those that are used; the others are empty.

        Raises:
            UserError: as :func:`nplp.data.own_images.read_image_table`.
        """
        del root
        if not source:
            raise UserError("OwnImages needs a folder of images or a table: set DATASETS.OWN.SOURCE")
        table = read_image_table(source, camera_pattern=camera_pattern, columns=parse_columns(columns))
        self.subsets_read = own_subsets(table, subsets)
        items = [self.subsets_read[subset].items if subset in subsets else [] for subset in SUBSETS]
        super().__init__(*items)


SYNTHETIC = (SynthPlaza.__name__, SynthStation.__name__, SynthCampus.__name__, SynthHarbour.__name__)
"""Names of the built-in domains."""


def synthetic_domain(cfg: CfgNode, factory: type[SyntheticDomain]) -> SyntheticDomain:
    """Return a synthetic domain of the size and style that ``DATASETS.SYNTHETIC`` asks for.

    Raises:
        UserError: for a value out of its range, or if the domain cannot be kept in the cache folder.
    """
    return factory(spec=_synthetic_spec(cfg, factory), cache_root=cfg.DATASETS.SYNTHETIC.ROOT)


def synthetic_images(cfg: CfgNode, name: str) -> tuple[DomainSpec, Path]:
    """Return what a built-in domain is, by its registered name, and the folder that it is rendered into.

    Raises:
        UserError: as :func:`synthetic_domain`.
    """
    spec = _synthetic_spec(cfg, DATASET_REGISTRY.get(name))
    return spec, _rendered(spec, cfg.DATASETS.SYNTHETIC.ROOT)


def _rendered(spec: DomainSpec, cache_root: str, progress: bool = False) -> Path:
    """Return the folder of a synthetic domain, rendered where it was not yet.

    Raises:
        UserError: if it cannot be kept in ``cache_root``.
    """
    try:
        return ensure_domain(spec, Path(cache_root or default_cache_root()), progress=progress)
    except DomainError as error:
        raise UserError(str(error)) from error


def _synthetic_spec(cfg: CfgNode, factory: type[SyntheticDomain]) -> DomainSpec:
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
