"""Loaders that put batches on the model's device and whose randomness depends on seed and epoch alone."""

import mmap
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data.build import fast_batch_collator
from fastreid.data.common import CommDataset
from fastreid.data.samplers import InferenceSampler
from fastreid.data.transforms import build_transforms
from fastreid.utils import comm
from torch.utils.data import BatchSampler, DataLoader

from nplp.config.choices import ACROSS_CAMERAS, CAMERA_PROXIES, EVENLY, IDENTITIES
from nplp.data.augmentation import UsualSteps, of_pixels
from nplp.data.datasets import Item
from nplp.data.decoded import crops_of, fixed_part
from nplp.data.images import UnreadableImageError
from nplp.data.on_device import BatchAugmentation, divide
from nplp.data.places import Place, PlacedBatches, drawn_at
from nplp.data.samplers import (
    CameraProxyBatchSampler,
    CrossCameraBatchSampler,
    Epoch,
    EvenCameraBatchSampler,
    IdentityBatchSampler,
    ShuffledBatchSampler,
    StreamBatchSampler,
)
from nplp.distributed.processes import end_with_parent
from nplp.errors import UserError, in_one_line
from nplp.host.loaders import Copies, SideStream, copied_ahead, to_device

_WORKERS_ERROR = mmap.mmap(-1, 240)
"""Memory that forked workers share: the error that ended one, in UTF-8; zeros for none."""

DEAD_WORKER = ("DataLoader worker", "Communication with the workers")
"""What torch's messages say when a loader lost a worker."""

__all__ = [
    "DeviceLoader",
    "ImageSet",
    "TrainSet",
    "build_group_loader",
    "build_test_loader",
    "build_train_loader",
    "workers_watched",
]


class ImageSet(CommDataset):
    """The toolbox's data set, with three channels whatever the file has, which says what it cannot read."""

    def __init__(
        self,
        items: list[Item],
        transform: Callable[[Any], Any],
        indices: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        two_views: bool = False,
    ) -> None:
        """Take items, whose labels are used as they are, and what makes a tensor of an RGB image.

        ``indices`` [N] are the images' numbers in the set that the items are a part of, ``weights`` [N]
        their shares of a loss; without them batches have no weights. With ``two_views`` an image is
        transformed twice, the second time into "second_images".
        """
        resize, rest = fixed_part(transform)
        super().__init__(items, of_pixels(rest), relabel=False)
        self.crops = crops_of([item[0] for item in items], resize)
        self.indices = np.arange(len(items)) if indices is None else indices
        self.weights = weights
        self.two_views = two_views

    def __getitem__(self, asked: int | Place) -> dict[str, Any]:
        """Return an image, transformed, with its identity, camera and number.

        Args:
            asked: its number in the data set; with its place in a batch, the transformation draws by that.

        Raises:
            UserError: if the file has vanished or become unreadable since it was looked at.
        """
        index = asked.number if isinstance(asked, Place) else asked
        path, identity, camera = self.img_items[index]
        try:
            pixels = self.crops.read(index, path)
        except UnreadableImageError as error:
            raise UserError(
                f"{path!r} cannot be read any more ({error.reason}): put it back; what was saved is kept, "
                "--resume goes on from it"
            ) from error
        weight = {} if self.weights is None else {"weights": float(self.weights[index])}
        with drawn_at(asked.position) if isinstance(asked, Place) else nullcontext():
            views = {"images": self.transform(pixels)}
            if self.two_views:
                views["second_images"] = self.transform(pixels)
        return {
            **weight,
            **views,
            "targets": identity,
            "camids": camera,
            "img_paths": path,
            "indices": int(self.indices[index]),
        }


class DeviceLoader:
    """A loader whose batches arrive on ``device``; iterating it again starts a new pass."""

    def __init__(
        self,
        loader: DataLoader,
        device: torch.device,
        augmentation: BatchAugmentation | None = None,
        copies: Copies | None = None,
    ) -> None:
        """Wrap ``loader``.

        Args:
            loader: yields dictionaries of tensors and lists.
            device: where they go.
            augmentation: of each batch when it is there, with its number in the pass.
            copies: how batches are copied one ahead; ``None``: each when it is asked for.
        """
        self.loader = loader
        self.dataset: Any = loader.dataset
        self.device = device
        self._augmentation = augmentation
        self._copies = copies

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, batch in enumerate(self._copied()):
            yield batch if self._augmentation is None else self._augmentation(number, batch)

    def _copied(self) -> Iterator[dict[str, Any]]:
        batches = _all_of(iter(self.loader))
        if self._copies is not None:
            return copied_ahead(batches, self._copies)
        return (to_device(batch, self.device) for batch in batches)


def _all_of(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    while (batch := _next_of(batches)) is not None:
        yield batch


def _next_of(batches: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a loader's next batch; None at its end.

    Raises:
        UserError: as a worker raised it, or if a worker died while it sent the batch.
    """
    try:
        return next(batches, None)
    except UserError as error:
        # Out of a worker it comes with the traceback of its process before it.
        message = str(error).strip().splitlines()[-1]
        raise UserError(message.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")) from error
    except (EOFError, ConnectionError) as error:
        raise _death_of_worker(error) from error


class TrainSet:
    """Images with contiguous labels, and how many steps an epoch over them takes."""

    def __init__(
        self,
        cfg: CfgNode,
        items: list[Item],
        labels: np.ndarray,
        cameras: np.ndarray,
        cluster_weights: np.ndarray | None = None,
        two_views: bool = False,
        singles: bool = False,
        cluster_shares: np.ndarray | None = None,
    ) -> None:
        """Join items with labels.

        Args:
            cfg: the configuration; ``INPUT``, ``SOLVER`` and ``DATALOADER`` are read.
            items: ``N`` items; their own identities are not looked at.
            labels: ``[N]`` int64, 0 to c - 1, or -1 for an image that takes no part.
            cameras: ``[N]`` int64 camera numbers.
            cluster_weights: ``[c]`` float64, each cluster's images' share of a loss; all 1 by default.
            two_views: transform each image twice, for "images" and "second_images" of a batch.
            singles: whether labels of one image are expected: it is then drawn once where others are drawn K
                times, see :class:`nplp.data.samplers.StreamBatchSampler`.
            cluster_shares: ``[c]`` float64 above 0, how often each cluster is drawn; None: all as often.
        """
        self.cfg = cfg
        self.singles = singles
        self.cluster_shares = cluster_shares
        kept = np.flatnonzero(labels >= 0)
        self.labels = labels[kept]
        self.cameras = cameras[kept]
        self.num_classes = int(labels.max()) + 1 if kept.size else 0
        records = [(items[i][0], int(labels[i]), int(cameras[i])) for i in kept]
        weights = None if cluster_weights is None else cluster_weights[self.labels]
        transform = build_transforms(cfg, is_train=True)
        self._two_views = two_views
        self._on_device: UsualSteps | None = None
        if cfg.INPUT.ON_DEVICE:
            # Both views are made there of the same pixels.
            transform, self._on_device = divide(transform)
            two_views = False
        self.dataset = ImageSet(records, transform, kept, weights, two_views)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the images, at least one."""
        return max(1, len(self) // self.cfg.SOLVER.IMS_PER_BATCH)

    def augmentation(self, epoch: Epoch) -> BatchAugmentation | None:
        """Return what the device does to an epoch's batches; ``None`` where it is done to each image read."""
        if self._on_device is None:
            return None
        return BatchAugmentation(self._on_device, epoch, self._two_views)


@contextmanager
def workers_watched() -> Iterator[None]:
    """Explain the death of a loader's worker, and leave none behind when the block ends.

    Raises:
        UserError: if a worker died, be it killed for its memory or for want of open files.
    """
    _WORKERS_ERROR[:] = bytes(len(_WORKERS_ERROR))
    try:
        yield
    except RuntimeError as error:
        # Torch raises it wherever python is when a worker ends.
        if not any(sign in str(error) for sign in DEAD_WORKER):
            raise
        raise _death_of_worker(error) from error
    finally:
        # They ignore the signal that would end them with this process.
        for worker in multiprocessing.active_children():
            worker.kill()


def _death_of_worker(error: Exception) -> UserError:
    """Return what is said of a worker's death, be it killed for its memory or for want of open files."""
    text = _WORKERS_ERROR[:].rstrip(b"\0").decode("utf-8", "replace")
    text = text or in_one_line(error, 240)
    # Else torch reports the same death again, wherever python is when the other workers end.
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return UserError(
        f"a worker that reads images died ({text[:240]}): there may be too little memory or shared memory, "
        "or too few open files (ulimit -n); lower DATALOADER.NUM_WORKERS and --resume"
    )


def build_train_loader(train_set: TrainSet, *, num_batches: int, seed: int) -> DeviceLoader:
    """Return the loader of one epoch: ``num_batches`` batches that depend on ``seed`` alone.

    Raises:
        UserError: if the batch does not divide over the processes.
    """
    cfg = train_set.cfg
    name, instances = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE
    labels, cameras, shares = train_set.labels, train_set.cameras, train_set.cluster_shares
    sampler: IdentityBatchSampler | ShuffledBatchSampler | StreamBatchSampler
    epoch = Epoch(cfg.SOLVER.IMS_PER_BATCH, num_batches, seed, comm.get_rank(), comm.get_world_size())
    try:
        if name == IDENTITIES:
            sampler = IdentityBatchSampler(labels, epoch, instances, shares)
        elif name == ACROSS_CAMERAS:
            sampler = CrossCameraBatchSampler(labels, cameras, epoch, instances, shares)
        elif name == CAMERA_PROXIES:
            sampler = CameraProxyBatchSampler(labels, cameras, epoch, instances)
        elif name == EVENLY:
            sampler = EvenCameraBatchSampler(labels, cameras, epoch, instances, shares)
        else:
            sampler = ShuffledBatchSampler(len(train_set), epoch)
    except ValueError as error:
        raise UserError(f"SOLVER.IMS_PER_BATCH: {error}") from error
    if train_set.singles and isinstance(sampler, IdentityBatchSampler):
        sampler = StreamBatchSampler(sampler)
    augmentation = train_set.augmentation(epoch)
    # What the device draws is by places always.
    placed = cfg.NPLP.SAME_AT_ANY_WORLD_SIZE and augmentation is None
    batches = PlacedBatches(sampler, epoch) if placed else sampler
    return _wrap(cfg, train_set.dataset, batches, seed + comm.get_rank(), augmentation)


def build_test_loader(cfg: CfgNode, items: list[Item]) -> DeviceLoader:
    """Return a loader over ``items`` in their order, with the test-time transformation.

    Under ``torch.distributed`` each rank reads its own consecutive share; the shares in rank order are
    the whole.
    """
    dataset = ImageSet(items, build_transforms(cfg, is_train=False))
    batch_size = max(1, cfg.TEST.IMS_PER_BATCH // comm.get_world_size())
    sampler = BatchSampler(InferenceSampler(len(items)), batch_size, drop_last=False)
    return _wrap(cfg, dataset, sampler, seed=cfg.SEED)


def build_group_loader(cfg: CfgNode, items: list[Item], groups: Sequence[np.ndarray]) -> DeviceLoader:
    """Return a loader of given batches of ``items``, with the test-time transformation.

    Args:
        cfg: the configuration.
        items: ``N`` items.
        groups: the numbers of the items of each batch, for this process alone.
    """
    dataset = ImageSet(items, build_transforms(cfg, is_train=False))
    return _wrap(cfg, dataset, [group.tolist() for group in groups], seed=cfg.SEED)


def _wrap(
    cfg: CfgNode,
    dataset: ImageSet,
    sampler: Any,
    seed: int,
    augmentation: BatchAugmentation | None = None,
) -> DeviceLoader:
    device = torch.device(cfg.MODEL.DEVICE)
    workers = cfg.DATALOADER.NUM_WORKERS
    on_gpu = device.type == "cuda"
    loader: DataLoader[dict[str, Any]] = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        prefetch_factor=cfg.DATALOADER.PREFETCH_FACTOR if workers else None,
        collate_fn=_collate,
        pin_memory=on_gpu,
        worker_init_fn=_seed_worker,
        generator=torch.Generator().manual_seed(seed),
    )
    return DeviceLoader(loader, device, augmentation, SideStream(device) if on_gpu else None)


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the toolbox's batch of some samples, their images stacked at once."""
    images = torch.stack([sample.pop("images") for sample in samples])
    return {**fast_batch_collator(samples), "images": images}


def _end_worker(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """End a worker at an error that nothing handles, leaving word of it.

    The thread that hands batches over, where there are too few open files for it, would report the error and
    try again for ever, while the run waits for the batch.
    """
    del kind, trace
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
    size = len(_WORKERS_ERROR)
    _WORKERS_ERROR[:] = reason.encode("utf-8")[:size].ljust(size, b"\0")
    os._exit(1)


def _end_feeding(error: Exception, batch: object) -> None:
    """End a worker that cannot send a batch; it would drop it, and the run would wait for it for ever."""
    del batch
    _end_worker(type(error), error, None)


def _seed_worker(worker_id: int) -> None:
    """Seed numpy and python in a loader worker from torch's own per-worker seed.

    A signal that stops the run must not reach the workers, which a terminal or a batch system may send it
    to as well: the step that is finished first needs them. They end with their parent, which on Linux the
    system sees to: a worker whose parent was killed may else wait for ever for someone to take its batch.
    """
    del worker_id
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # In this process alone: the parent has queues of its own.
    sys.excepthook = _end_worker
    Queue._on_queue_feeder_error = staticmethod(_end_feeding)  # type: ignore[attr-defined]
    if sys.platform == "linux":
        end_with_parent(signal.SIGKILL)
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)  # noqa: NPY002  the toolbox's transforms draw from the global generator
    random.seed(seed)
