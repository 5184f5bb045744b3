"""Which images make a batch: P identities with K images each, or a plain shuffle.

All samplers are finite (one epoch) and draw from a generator of their own, seeded by the caller, so
that an epoch's batches depend on the seed and the epoch alone: neither on the global random state nor
on what ran before a resume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from torch.utils.data import Sampler

__all__ = [
    "CameraProxyBatchSampler",
    "CrossCameraBatchSampler",
    "Epoch",
    "EvenCameraBatchSampler",
    "IdentityBatchSampler",
    "ShuffledBatchSampler",
    "StreamBatchSampler",
]


@dataclass(frozen=True)
class Epoch:
    """What all samplers need to know of an epoch.

    Attributes:
        batch_size: images of a batch over all ranks.
        num_batches: batches of the epoch.
        seed: seed of this epoch's draws.
        rank: this process's number.
        world_size: number of processes.
    """

    batch_size: int
    num_batches: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def share_of(self, size: int) -> slice:
        """Return this rank's consecutive share of ``size`` things, a multiple of the number of processes."""
        share = size // self.world_size
        return slice(self.rank * share, (self.rank + 1) * share)


class IdentityBatchSampler(Sampler[list[int]]):
    """Batches of P identities with K images each, for the batch-hard triplet loss.

    The identities of an epoch are random permutations of all, one after another; the last ones of a
    permutation that do not fill a batch are left out. With fewer than P identities the permutation is
    repeated within the batch, so that an identity may come with a multiple of K images. An identity's
    images are drawn without replacement until they are used up; one with fewer than K repeats some.

    With shares, an addition to the paper, each batch draws P identities without replacement, one after
    another, each with a probability in proportion to its share among those that are left.

    In a distributed run every rank draws the same batches and keeps its own consecutive share of the
    identities, so that the global batch in rank order is the batch of one process.

    Attributes:
        images: the numbers of each identity's images.
        epoch: what it was given.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        epoch: Epoch,
        num_instances: int,
        shares: np.ndarray | None = None,
    ) -> None:
        """Prepare one epoch.

        Args:
            labels: identity (or pseudo-label) of each image, ``[N]`` integers.
            epoch: its batch size is a multiple of ``num_instances * world_size``.
            num_instances: K, images of an identity in a batch.
            shares: how often each identity is drawn, ``[c]`` float64 above 0 in the order of the identities'
                numbers; None: as often as the others.

        Raises:
            ValueError: if ``labels`` is empty, the batch size does not divide as stated, or shares are not
                above 0 or not one for each identity.
        """
        labels = np.asarray(labels)
        if labels.size == 0:
            raise ValueError("labels must hold at least one image, got none")
        if epoch.batch_size <= 0 or epoch.batch_size % (num_instances * epoch.world_size):
            raise ValueError(
                f"batch_size must be a positive multiple of num_instances x world_size = "
                f"{num_instances} x {epoch.world_size}, got {epoch.batch_size}"
            )
        self.images = [np.flatnonzero(labels == identity) for identity in np.unique(labels)]
        if shares is not None and (len(shares) != len(self.images) or not (shares > 0).all()):
            raise ValueError(
                f"shares must be above 0, one for each of {len(self.images)} identities, got {len(shares)} "
                f"from {shares.min()}"
            )
        self._shares = None if shares is None else shares / shares.sum()
        self._per_batch = epoch.batch_size // num_instances
        self._num_instances = num_instances
        self.epoch = epoch

    def __len__(self) -> int:
        return self.epoch.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(self.epoch.seed)
        own = self.epoch.share_of(self._per_batch)
        left: dict[int, list[int]] = {}
        identities = self._identities(rng)
        for _ in range(self.epoch.num_batches):
            batch = [self.draw(next(identities), left, rng) for _ in range(self._per_batch)]
            yield [image for images in batch[own] for image in images]

    def _identities(self, rng: np.random.Generator) -> Iterator[int]:
        while True:
            yield from self._full_batches(rng).tolist()

    def _full_batches(self, rng: np.random.Generator) -> np.ndarray:
        """Return the identities of one batch, or of as many as a permutation fills."""
        count, size = len(self.images), self._per_batch
        if count <= size:
            return np.resize(rng.permutation(count), size)
        if self._shares is not None:
            return rng.choice(count, size, replace=False, p=self._shares)
        return rng.permutation(count)[: count - count % size]

    def draw(self, identity: int, left: dict[int, list[int]], rng: np.random.Generator) -> list[int]:
        """Return K images of an identity.

        Args:
            identity: its number.
            left: images not used up yet, by identity; changed.
            rng: draws them.
        """
        count = self._num_instances
        images = self.images[identity]
        if len(images) < count:
            return np.concatenate([images, rng.choice(images, count - len(images))]).tolist()
        unused = left.get(identity, [])
        if len(unused) < count:
            unused = rng.permutation(images).tolist()
        left[identity] = unused[count:]
        return unused[:count]


class CrossCameraBatchSampler(IdentityBatchSampler):
    """Batches of P identities with K images each, those of other cameras first (BalancedIdentitySampler).

    Identities, batches and the ranks' shares are those of :class:`IdentityBatchSampler`. The K images of an
    identity are, in this order:

    1. one image, any of the identity's: each is the first once before any is the first again;
    2. its images from other cameras than the first one's, in random order;
    3. its other images from the first one's camera, in random order;
    4. where all these are fewer than K, random repeats: of images from other cameras where the identity has
       any, else of any of its images.

    So an identity of one camera has K random images of it, and none comes twice unless the identity has
    fewer than K. Where there are fewer than P identities, one that comes again in a batch is drawn anew, and
    the two draws may share images. The toolbox's class of that name leaves step 3 out and repeats images of
    other cameras instead, and it repeats some even where there are just enough.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        cameras: Sequence[int] | np.ndarray,
        epoch: Epoch,
        num_instances: int,
        shares: np.ndarray | None = None,
    ) -> None:
        """Prepare one epoch.

        Args:
            labels: as epoch, num_instances and shares, see :class:`IdentityBatchSampler`.
            cameras: camera of each image, ``[N]`` integers.
            epoch: likewise.
            num_instances: likewise.
            shares: likewise.

        Raises:
            ValueError: as :class:`IdentityBatchSampler`, or if labels and cameras differ in number.
        """
        super().__init__(labels, epoch, num_instances, shares)
        self._cameras = np.asarray(cameras)
        if self._cameras.shape != np.shape(labels):
            raise ValueError(f"there must be a camera for each of {len(labels)} labels, got {len(cameras)}")

    def draw(self, identity: int, left: dict[int, list[int]], rng: np.random.Generator) -> list[int]:
        """Return K images of an identity, those of other cameras than the first one's before others."""
        images = self.images[identity]
        unused = left.get(identity) or rng.permutation(images).tolist()
        first, left[identity] = unused[0], unused[1:]
        rest = rng.permutation(images[images != first])
        elsewhere = self._cameras[rest] != self._cameras[first]
        drawn = [first, *rest[elsewhere].tolist(), *rest[~elsewhere].tolist()][: self._num_instances]
        repeated = rest[elsewhere] if elsewhere.any() else images
        return drawn + rng.choice(repeated, self._num_instances - len(drawn)).tolist()


class CameraProxyBatchSampler(IdentityBatchSampler):
    """Batches of P camera proxies, identities in a camera, with K images each (CameraProxySampler).

    An :class:`IdentityBatchSampler` of the proxies: each comes once before any comes again, so that an
    identity comes as often as there are cameras that see it, and a batch has whatever cameras chance gives.
    CAP (Wang et al., AAAI 2021) and O2CAP (TIP 2022) draw so. With fewer than K images of a proxy theirs
    may leave one out and repeat another; this one has each once before any twice.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        cameras: Sequence[int] | np.ndarray,
        epoch: Epoch,
        num_instances: int,
    ) -> None:
        """Prepare one epoch; arguments and errors are those of :class:`CrossCameraBatchSampler`."""
        if np.shape(cameras) != np.shape(labels):
            raise ValueError(f"there must be a camera for each of {len(labels)} labels, got {len(cameras)}")
        pairs = np.stack([np.asarray(labels), np.asarray(cameras)])
        proxies = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1) if pairs.size else labels
        super().__init__(proxies, epoch, num_instances)


class StreamBatchSampler(Sampler[list[int]]):
    """Batches cut from a stream of identities: K images of each, but one of an identity that has no other.

    So SpCL's authors draw clusters and un-clustered images (yxgeee/SpCL, spcl/utils/data/sampler.py).
    The stream is random permutations of all identities, one after another; an identity's K images are drawn
    as by the sampler that is given, and may lie in two batches. As there, what of a permutation's images does
    not fill a batch is left out, unless it fills none at all.

    In a distributed run every rank draws the same batches and keeps its own consecutive share of the images.
    """

    def __init__(self, identities: IdentityBatchSampler) -> None:
        """Take the sampler that knows the identities' images and the epoch."""
        self._identities = identities

    def __len__(self) -> int:
        return len(self._identities)

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self._identities.epoch
        rng = np.random.default_rng(epoch.seed)
        own, left = epoch.share_of(epoch.batch_size), {}  # type: slice, dict[int, list[int]]
        stream: list[int] = []
        for _ in range(epoch.num_batches):
            if len(stream) < epoch.batch_size:
                stream = self._pass(left, rng)
            while len(stream) < epoch.batch_size:
                stream += self._pass(left, rng)
            batch, stream = stream[: epoch.batch_size], stream[epoch.batch_size :]
            yield batch[own]

    def _pass(self, left: dict[int, list[int]], rng: np.random.Generator) -> list[int]:
        """Return the images of one permutation of all identities."""
        images = self._identities.images
        return [
            image
            for identity in rng.permutation(len(images)).tolist()
            for image in (
                self._identities.draw(identity, left, rng)
                if len(images[identity]) > 1
                else images[identity].tolist()
            )
        ]


class EvenCameraBatchSampler(CrossCameraBatchSampler):
    """Batches of P identities, the K images of each spread evenly over its cameras (CameraBalancedSampler).

    An addition to the paper. Identities, batches and the ranks' shares are those of
    :class:`IdentityBatchSampler`. For each draw of an identity its cameras come in random order and give an
    image each, in turn, until there are K: a camera's images in random order, none twice. A camera that has
    given all of its images is left out. An identity with fewer than K images begins anew with all of them.
    """

    def draw(self, identity: int, left: dict[int, list[int]], rng: np.random.Generator) -> list[int]:
        """Return an identity's K images, a camera after the other."""
        del left
        drawn: list[int] = []
        while len(drawn) < self._num_instances:
            images = rng.permutation(self.images[identity])
            cameras = rng.permutation(np.unique(self._cameras[images]))
            by_camera = [images[self._cameras[images] == camera].tolist() for camera in cameras]
            rounds = zip_longest(*by_camera)
            drawn += [image for round_ in rounds for image in round_ if image is not None]
        return drawn[: self._num_instances]


class ShuffledBatchSampler(Sampler[list[int]]):
    """Batches of images in random order, without regard to identities (the toolbox's TrainingSampler)."""

    def __init__(self, size: int, epoch: Epoch) -> None:
        """Prepare one epoch over ``size`` images.

        Raises:
            ValueError: if there is none, or the batch size does not divide over the ranks.
        """
        if size <= 0:
            raise ValueError(f"size must be at least 1, got {size}")
        if epoch.batch_size <= 0 or epoch.batch_size % epoch.world_size:
            raise ValueError(
                f"batch_size must be a positive multiple of {epoch.world_size} processes, "
                f"got {epoch.batch_size}"
            )
        self._size = size
        self._epoch = epoch

    def __len__(self) -> int:
        return self._epoch.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(self._epoch.seed)
        size, own = self._epoch.batch_size, self._epoch.share_of(self._epoch.batch_size)
        pool: list[int] = []
        for _ in range(self._epoch.num_batches):
            while len(pool) < size:
                pool.extend(rng.permutation(self._size).tolist())
            batch, pool = pool[:size], pool[size:]
            yield batch[own]
