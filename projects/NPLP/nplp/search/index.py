"""A gallery that can be searched, kept in a folder.

Shapes: N images of the gallery, Q queries, D values of a feature.
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from nplp.errors import UserError, in_one_line, printable
from nplp.files import PART, SUM_DIGITS, read_json, sha256_of, write_atomically
from nplp.search.embedder import Embedder

__all__ = ["KINDS", "Hits", "Index", "checked_features", "normalised"]

_faiss: Any = faiss
"""Without its stubs, which lack half of it."""

ABOUT = "index.json"
"""Says what an index is, and names the file of its vectors: what it names is whole."""

VECTORS = "vectors-{}.faiss"
FORMAT, VERSION = "nplp-index", 1

KINDS = {"exact": b"IxFI", "hnsw": b"IHNf"}
"""Kinds of indices, and how faiss's files of them begin; others could name further files."""

HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 100, 128
"""Links of a vector, and candidates while the graph is built and searched."""

SAME_MODEL = 0.9999
"""Cosine between two models' features of one picture from which they count as the same."""

REMEDY = "build the index again"


@dataclass(frozen=True)
class Hits:
    """What was found for Q queries, the most similar first.

    Attributes:
        numbers: [Q, top] int64, of the images in the order in which they were added; -1 where a query has
            fewer hits.
        similarity: [Q, top] float32, cosines; NaN where a query has fewer hits.
        paths: for each query those of its hits.
        cameras: for each query those of its hits, ``None`` for one that is not known.
    """

    numbers: np.ndarray
    similarity: np.ndarray
    paths: list[list[str]]
    cameras: list[list[str | None]]

    def __len__(self) -> int:
        """Return Q."""
        return len(self.numbers)

    def without(self, queries: Sequence[str | Path], top: int) -> "Hits":
        """Return the first ``top`` hits of each query that are not the query's own file.

        Args:
            queries: Q files.
            top: hits a query.
        """
        numbers = np.full((len(self), top), -1, np.int64)
        similarity = np.full((len(self), top), np.nan, np.float32)
        paths: list[list[str]] = []
        cameras: list[list[str | None]] = []
        for place, query in enumerate(queries):
            own = os.path.realpath(query)
            kept = [i for i, path in enumerate(self.paths[place]) if os.path.realpath(path) != own][:top]
            numbers[place, : len(kept)] = self.numbers[place, kept]
            similarity[place, : len(kept)] = self.similarity[place, kept]
            paths.append([self.paths[place][i] for i in kept])
            cameras.append([self.cameras[place][i] for i in kept])
        return Hits(numbers, similarity, paths, cameras)


class Index:
    """Images by their features, found by cosine similarity with faiss.

    "exact" compares a query with all images: N x D x 4 bytes of memory. "hnsw" walks a graph of neighbours
    (Malkov and Yashunin, arXiv 1603.09320), which is faster for many images, takes N x 256 bytes more, and
    misses a hit now and then; with ``exclude_same_camera`` it may find fewer than there are.

    Args:
        features: [N, D], as a model gives them; they are L2-normalised here.
        paths: N.
        cameras: N names, ``None`` for one that is not known.
        model: what made the features; its description and a feature of a fixed picture are kept, so that the
            index is not searched with another model.
        kind: "exact" or "hnsw".

    Attributes:
        paths: N.
        cameras: N.
        model: description and source of the model, and its feature of a fixed picture; empty where unknown.

    Raises:
        UserError: if features are not of shape [N, D] or not finite, or there are not as many paths or
            cameras.
    """

    def __init__(
        self,
        features: np.ndarray,
        paths: Sequence[str | Path],
        cameras: Sequence[str | None] | None = None,
        model: Embedder | None = None,
        kind: str = "exact",
    ) -> None:
        if kind not in KINDS:
            raise UserError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        values = checked_features(features)
        self.kind = kind
        self.paths: list[str] = []
        self.cameras: list[str | None] = []
        self.model: dict[str, Any] = {}
        if model is not None:
            if model.dim != values.shape[1]:
                raise UserError(f"the model gives {model.dim} values, the features have {values.shape[1]}")
            probe = [float(value) for value in model.probe()]
            source = os.path.abspath(model.source) if os.path.exists(model.source) else model.source
            self.model = {"description": model.description, "source": source, "probe": probe}
        self._vectors = _empty(kind, values.shape[1])
        self.add(values, paths, cameras)

    @property
    def dim(self) -> int:
        """D."""
        return int(self._vectors.d)

    def __len__(self) -> int:
        """Return N."""
        return len(self.paths)

    def add(
        self,
        features: np.ndarray,
        paths: Sequence[str | Path],
        cameras: Sequence[str | None] | None = None,
    ) -> None:
        """Add images.

        Args:
            features: [n, D].
            paths: n.
            cameras: n names.

        Raises:
            UserError: as the constructor, or if D is another.
        """
        values = self._checked(features)
        for what, given in (("paths", paths), ("cameras", cameras)):
            if given is not None and len(given) != len(values):
                raise UserError(f"{len(values)} features need as many {what}, got {len(given)}")
        self._vectors.add(normalised(values))
        self.paths += [os.fspath(path) for path in paths]
        self.cameras += [None] * len(values) if cameras is None else list(cameras)

    def search(
        self,
        features: np.ndarray,
        top: int = 10,
        cameras: Sequence[str | None] | None = None,
        exclude_same_camera: bool = False,
    ) -> Hits:
        """Return the images most similar to each query.

        Args:
            features: [Q, D].
            top: hits a query; fewer where there are fewer images.
            cameras: of the Q queries.
            exclude_same_camera: leave out images by the query's camera; those of unknown cameras stay, and
                for a query of an unknown camera all do. Needs ``cameras``.

        Raises:
            UserError: if D is another than the index's, or something is out of its range.
        """
        values = normalised(self._checked(features))
        if top < 1:
            raise UserError(f"top must be at least 1, got {top}")
        if exclude_same_camera and (cameras is None or len(cameras) != len(values)):
            raise UserError(f"exclude_same_camera needs the cameras of the {len(values)} queries")
        top = min(top, len(self))
        numbers = np.full((len(values), top), -1, np.int64)
        similarity = np.full((len(values), top), np.nan, np.float32)
        asked: list[str | None] = list(cameras or []) if exclude_same_camera else [None] * len(values)
        for camera in sorted(set(asked), key=str):
            rows = np.array([place for place, name in enumerate(asked) if name == camera], np.int64)
            if len(self):
                found = self._vectors.search(values[rows], top, params=self._without(camera))
                numbers[rows], similarity[rows] = found[1], np.where(found[1] < 0, np.nan, found[0])
        kept = [row[row >= 0].tolist() for row in numbers]
        return Hits(
            numbers,
            similarity,
            [[self.paths[number] for number in row] for row in kept],
            [[self.cameras[number] for number in row] for row in kept],
        )

    def check_model(self, model: Embedder) -> None:
        """Look at whether a model is the one that made the index.

        Raises:
            UserError: if it gives other features.
        """
        made_by = printable(str(self.model.get("description", "a model of which nothing is known")))
        if model.dim != self.dim:
            raise UserError(
                f"the index holds features of {self.dim} values by {made_by}, and {model.description} gives "
                f"{model.dim}: name that model, or {REMEDY}"
            )
        if not self.model:
            return
        first, second = np.array(self.model["probe"]), model.probe().astype(np.float64)
        lengths = np.linalg.norm(first) * np.linalg.norm(second)
        if not first @ second >= SAME_MODEL * lengths:
            raise UserError(
                f"the index was made by {made_by}, and {model.description} gives other features: name that "
                f"model, or {REMEDY}"
            )

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the index to a folder so that it holds either its old content or all of the new one.

        ``index.json`` names the file of the vectors by its SHA-256 sum, and is replaced last.

        Args:
            path: of the folder, which is made where there is none.
            overwrite: replace an index that is there.

        Raises:
            UserError: if the folder holds an index and is not to be overwritten, holds anything else, or
                cannot be written.
        """
        folder = Path(path)
        check_place(folder, overwrite)
        created = not folder.exists()
        vectors = folder / VECTORS.format("new")
        remedy = "make room, or name another folder"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(vectors, "wb") as file:
                faiss.write_index(self._vectors, _faiss.PyCallbackIOWriter(file.write))
                file.flush()
                os.fsync(file.fileno())
            total = sha256_of(vectors)
            final = folder / VECTORS.format(total[:SUM_DIGITS])
            os.replace(vectors, final)
            about = {
                "format": FORMAT,
                "version": VERSION,
                "kind": self.kind,
                "images": len(self),
                "dim": self.dim,
                "model": self.model,
                "vectors": final.name,
                "sha256": total,
                "paths": self.paths,
                "cameras": self.cameras,
            }
            write_atomically(folder / ABOUT, f"{json.dumps(about, indent=1)}\n")
        except BaseException as error:
            with suppress(OSError):
                vectors.unlink(missing_ok=True)
                if created:
                    shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError | RuntimeError):
                reason = getattr(error, "strerror", None) or in_one_line(error, 80)
                raise UserError(f"{str(folder)!r} cannot be written ({reason}): {remedy}") from error
            raise
        for old in folder.glob(VECTORS.format("*")):
            if old != final:
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Return the index that a folder holds.

        Raises:
            UserError: in one line, if there is none, it is torn or altered, or of another version.
        """
        folder = Path(path)
        about_path = folder / ABOUT
        if not about_path.is_file():
            state = "holds no index" if folder.is_dir() else "is no folder of an index"
            raise UserError(f"{str(folder)!r} {state}: nplp index writes one")
        about = read_json(about_path, REMEDY)
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            seen = f"{about.get('format')!r:.30} version {about.get('version')!r:.10}"
            raise UserError(f"{str(about_path)!r} is {seen}, not {FORMAT} version {VERSION}: {REMEDY}")
        if fault := _fault_of(about):
            raise UserError(f"{str(about_path)!r} is damaged ({fault}): {REMEDY}")
        index = cls.__new__(cls)
        index.kind, index.paths, index.cameras = about["kind"], about["paths"], about["cameras"]
        index.model = about["model"]
        index._vectors = _read_vectors(folder / about["vectors"], about)
        return index

    def _checked(self, features: np.ndarray) -> np.ndarray:
        values = checked_features(features)
        if values.shape[1] != self.dim:
            raise UserError(f"the index holds features of {self.dim} values, got {values.shape[1]}")
        return values

    def _without(self, camera: str | None) -> Any:
        """Return faiss's parameters of a search that leaves a camera's images out; ``None`` for no camera."""
        kept = np.array([camera is None or name != camera for name in self.cameras])
        if self.kind == "hnsw":
            options: dict[str, Any] = {"efSearch": HNSW_SEARCH}
            kind = _faiss.SearchParametersHNSW
        else:
            options, kind = {}, faiss.SearchParameters
        if kept.all():
            return kind(**options)
        return kind(sel=_faiss.IDSelectorBitmap(np.packbits(kept, bitorder="little")), **options)


def check_place(folder: Path, overwrite: bool) -> None:
    """Check, before any work, that an index may be written to a folder.

    Raises:
        UserError: if it holds an index and is not to be overwritten, or holds something else.
    """
    if folder.is_dir():
        # Vectors without what names them are left of a save that was cut off.
        rest = (VECTORS.format("*"), ABOUT + PART)
        names = sorted(entry.name for entry in folder.iterdir())
        held = [name for name in names if not any(fnmatch(name, pattern) for pattern in rest)]
        if ABOUT in held and not overwrite:
            raise UserError(f"{str(folder)!r} holds an index: add --overwrite (overwrite=True) to replace it")
        if held and ABOUT not in held:
            raise UserError(f"{str(folder)!r} holds other files ({held[0]!r}): name an empty or a new folder")
    elif folder.exists():
        raise UserError(f"{str(folder)!r} is a file: an index is a folder, name another")


def checked_features(features: np.ndarray) -> np.ndarray:
    """Return features as a C-ordered array [N, D] of float32.

    Raises:
        UserError: if they are not real and finite, or of another shape.
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise UserError(f"features must be real numbers [N, D], got {array.dtype} {list(array.shape)}")
    values = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise UserError(f"features must be finite, got values that are no numbers in row {bad}")
    return values


def normalised(features: np.ndarray) -> np.ndarray:
    """Return features [N, D] float32 of length 1; one of length 0 stays as it is."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1).astype(np.float32)


def _empty(kind: str, dim: int) -> Any:
    """Return faiss's index of a kind, without images."""
    if kind == "exact":
        return faiss.IndexFlatIP(dim)
    index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_BUILD
    return index


def _fault_of(about: dict[str, Any]) -> str:
    """Return what is wrong with what is said of an index, in a few words; empty where nothing is."""
    count = about.get("images")
    if about.get("kind") not in KINDS or not isinstance(about.get("dim"), int) or not isinstance(count, int):
        return "it does not say what it holds"
    for name, optional in (("paths", False), ("cameras", True)):
        values = about.get(name)
        if not isinstance(values, list) or len(values) != count:
            return f"it has not {count} {name}"
        if not all(isinstance(value, str) or (optional and value is None) for value in values):
            return f"its {name} are no names"
    total = about.get("sha256")
    if not isinstance(total, str) or about.get("vectors") != VECTORS.format(total[:SUM_DIGITS]):
        return "it does not name its vectors"
    model = about.get("model")
    probe = model.get("probe", []) if isinstance(model, dict) else None
    if not isinstance(probe, list) or not all(isinstance(value, int | float) for value in probe):
        return "it does not name its model"
    if model and len(probe) != about["dim"]:
        return "its model gives other features"
    return ""


def _read_vectors(path: Path, about: dict[str, Any]) -> Any:
    """Return faiss's index in a file.

    Raises:
        UserError: if it is missing, torn or altered, or not what ``about`` says.
    """
    try:
        if path.is_symlink() or sha256_of(path) != about["sha256"]:
            raise UserError(f"{str(path)!r} was altered, as its SHA-256 sum is another: {REMEDY}")
        with open(path, "rb") as file:
            if file.read(4) != KINDS[about["kind"]]:
                raise UserError(f"{str(path)!r} is no {about['kind']} index of faiss: {REMEDY}")
            file.seek(0)
            vectors = faiss.read_index(_faiss.PyCallbackIOReader(file.read))
    except (OSError, RuntimeError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or in_one_line(error, 80)
        raise UserError(f"{str(path)!r} cannot be read ({reason}): {REMEDY}") from error
    held = (vectors.d, vectors.ntotal, vectors.metric_type)
    if held != (about["dim"], about["images"], faiss.METRIC_INNER_PRODUCT):
        raise UserError(f"{str(path)!r} holds {held[1]} vectors of {held[0]} values: {REMEDY}")
    return vectors
