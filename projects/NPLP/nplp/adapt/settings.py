"""Settings of an adaptation that nobody has to guess: from the images and the machine, each with its reason.

What they rest on was measured on drawn and on real people: docs/what_we_found.md and docs/adapt.md.
"""

from dataclasses import dataclass
from typing import Any

from nplp.adapt.facts import ImageFacts, MachineFacts
from nplp.clustering.neighbourhood import IMAGES_A_NEIGHBOUR, USUAL_K1, local_expansion
from nplp.config.choices import CAMERA_MEAN, IDENTITIES, TRACKS_CONSTRAIN
from nplp.errors import UserError

__all__ = ["FEWEST_IMAGES", "Choice", "choose_settings"]

FEWEST_IMAGES = 24
"""Below, there is nothing to cluster: six people of four images."""

INSTANCES = 4
"""Images of a cluster in a batch: K of the paper."""
BATCH = 64
"""P x K of the paper."""
TALL, LOW = (256, 128), (192, 96)
LOW_CROPS = 96
"""Crops below this height hold no more than a smaller input shows. With crops of 128 rows the larger input
was ahead by 2 mAP on both of PKU-Reid's splits 0 and 1 (docs/adapt.md)."""

EPOCHS = 3
ITERATIONS = 12
WITHOUT_CORRECTION = 1_000_000
"""Iterations of the startup stage, more than anybody asks for: the correcting stage never begins."""
AGREEMENT = 0.97
LEAST_ITERATIONS = 4
FEWEST_STEPS = 8
MOST_STEPS = {"processor": 100, "GPU": 500}
"""Steps of an epoch at most: 500 make the 18,000 steps that MMT trains, on a GPU an hour or two."""

CAMERA_NORMS_AT_MOST = 8
"""Cameras up to which a batch of 64 holds eight images of each: batch norms need several."""
CAMERA_NORMS_AT_LEAST = 64
"""Images of each camera from which its mean and deviation in each channel are known well enough."""
MOST_NEIGHBOURS = 60
"""k1 where a person has as many images or more; the usual 20 would be of one camera (docs/tracks.md)."""
WORKERS_AT_MOST = 8


@dataclass(frozen=True)
class Choice:
    """Keys of the configuration that are set together, and why.

    Attributes:
        name: what is chosen, in words.
        keys: the keys and their values.
        shown: the value in words; empty: the first key's.
        reason: one line.
    """

    name: str
    keys: dict[str, Any]
    reason: str
    shown: str = ""


def choose_settings(
    images: ImageFacts,
    machine: MachineFacts,
    *,
    batch_norms: bool = True,
    additions: bool = True,
    people: int = 0,
) -> list[Choice]:
    """Return the settings of an adaptation, but for alpha.

    Args:
        images: the target's.
        machine: what it runs on.
        batch_norms: whether the network has batch norms, which may get statistics of each camera.
        additions: with the recommended additions to the paper's method; without them where a method is named
            that brings its own settings.
        people: how many there are, by the user's guess; 0: unknown.

    Raises:
        UserError: if there are too few images to cluster.
    """
    if images.count < FEWEST_IMAGES:
        raise UserError(
            f"there are {images.count} images to adapt to: at least {FEWEST_IMAGES} are needed; a few "
            "hundred, several of each person, are the least that helps"
        )
    choices = [
        _size(images),
        Choice(
            "batch",
            {
                "SOLVER.IMS_PER_BATCH": BATCH,
                "DATALOADER.NUM_INSTANCE": INSTANCES,
                "DATALOADER.SAMPLER_TRAIN": IDENTITIES,
            },
            "the paper's: 16 people of 4 images",
        ),
        Choice(
            "augmentation",
            {f"INPUT.{name}.ENABLED": True for name in ("FLIP", "PADDING", "REA")},
            "the paper's",
            "flipping, shifting, erasing",
        ),
        Choice(
            "optimiser",
            {"SOLVER.OPT": "Adam", "SOLVER.BASE_LR": 0.00035, "SOLVER.STEPS": [], "SOLVER.WARMUP_ITERS": 0},
            "the field's usual one for fine-tuning, Adam",
            "Adam, rate 0.00035",
        ),
        *_schedule(images, machine),
        *([_weights(), *_cameras(images, batch_norms), _rules()] if additions else []),
        *_tracks(images),
        _workers(machine),
    ]
    return [*choices, *_neighbours(images, people, additions)]


def neighbours_of_few(count: int) -> dict[str, int]:
    """Return K1 and K2 for few images; nothing where there are enough for the usual ones."""
    if count >= IMAGES_A_NEIGHBOUR * USUAL_K1:
        return {}
    k1 = max(INSTANCES, count // IMAGES_A_NEIGHBOUR)
    return {"K1": k1, "K2": max(2, min(6, k1 // 3))}


def _neighbours(images: ImageFacts, people: int, additions: bool) -> list[Choice]:
    """Return k1 and k2, where they are not the paper's."""
    count = images.count
    if few := neighbours_of_few(count):
        keys = {f"NPLP.{key}": value for key, value in few.items()}
        return [Choice("neighbours", keys, f"a tenth of the {count} images")]
    if not people:
        if not additions:
            return []
        keys = {"NPLP.K1": 0}
        reason = "k1 with which a cluster holds about k1 images"
        return [Choice("neighbours", keys, reason, "from the features of the first iteration")]
    own = count // people
    if own <= USUAL_K1:
        return []
    k1 = min(own, MOST_NEIGHBOURS)
    keys = {"NPLP.K1": k1, "NPLP.K2": local_expansion(k1)}
    return [Choice("neighbours", keys, f"a person has about {own} images, by your guess of the people")]


def _size(images: ImageFacts) -> Choice:
    low = images.height < LOW_CROPS
    size = list(LOW if low else TALL)
    crops = f"the crops are {images.height} x {images.width} in the middle"
    reason = f"{crops}: a larger input shows no more" if low else f"{crops}; the field's usual size"
    return Choice(
        "input size", {"INPUT.SIZE_TRAIN": size, "INPUT.SIZE_TEST": size}, reason, f"{size[0]} x {size[1]}"
    )


def _schedule(images: ImageFacts, machine: MachineFacts) -> list[Choice]:
    kind = "GPU" if machine.gpu else "processor"
    whole = max(FEWEST_STEPS, images.count // BATCH)
    steps = min(whole, MOST_STEPS[kind])
    length = (
        f"a {kind} does no more in reasonable time" if steps < whole else "each image about once an epoch"
    )
    return [
        Choice(
            "iterations",
            {
                "NPLP.ITERATIONS": ITERATIONS,
                "NPLP.EPOCHS_PER_ITERATION": EPOCHS,
                "NPLP.STEPS_PER_EPOCH": steps,
            },
            length,
            f"at most {ITERATIONS}, of {EPOCHS} epochs of {steps} steps",
        ),
        Choice(
            "end",
            {"NPLP.STOP.AGREEMENT": AGREEMENT, "NPLP.STOP.MIN_ITERATIONS": LEAST_ITERATIONS},
            "labels that no longer change teach nothing new",
            f"when labels agree by {AGREEMENT} with those before, after {LEAST_ITERATIONS} or more",
        ),
        Choice(
            "correcting stage",
            {"NPLP.STARTUP_ITERATIONS": WITHOUT_CORRECTION},
            "off: it costs links across cameras and gained nothing in any measurement",
            "none",
        ),
    ]


def _weights() -> Choice:
    keys = {"NPLP.EMA": True, "NPLP.EMA_LABELS": True, "TEST.METRIC": "cosine"}
    return Choice("weights", keys, "the last weights swing by points from step to step", "averaged")


def _cameras(images: ImageFacts, batch_norms: bool) -> list[Choice]:
    """Return how cameras are treated: all of it was chosen on real people, docs/cameras.md."""
    count, least = len(images.cameras), min(images.cameras.values())
    plain = ["TripletLoss", "CenterContrastiveLoss"]
    if count < 2:
        losses = {"MODEL.LOSSES.NAME": plain}
        return [Choice("cameras", losses, "one, or not known: their styles stay in the features", "ignored")]
    choices = [
        Choice(
            "cameras",
            {
                "NPLP.CAMERA_CENTERING": True,
                "TEST.CAMERAS": CAMERA_MEAN,
                "MODEL.LOSSES.NAME": [*plain, "CameraProxyLoss"],
            },
            f"{count} cameras, whose styles cost more than all else",
            "means subtracted, a loss across them",
        )
    ]
    by_camera = batch_norms and count <= CAMERA_NORMS_AT_MOST and least >= CAMERA_NORMS_AT_LEAST
    if not batch_norms:
        reason = "the network has no batch norms"
    elif count > CAMERA_NORMS_AT_MOST:
        reason = f"{count} cameras are too many for a batch of {BATCH}"
    elif least < CAMERA_NORMS_AT_LEAST:
        reason = f"a camera has {least} images, of {CAMERA_NORMS_AT_LEAST} that its statistics need"
    else:
        reason = f"a batch of {BATCH} holds several images of each of {count} cameras"
    shown = "of each camera" if by_camera else "of all cameras together"
    choices.append(Choice("batch norms", {"MODEL.NORM_CAMERAS": by_camera}, reason, shown))
    return choices


def _tracks(images: ImageFacts) -> list[Choice]:
    """Return what is made of tracks: docs/tracks.md says what it gains."""
    if not images.tracked:
        return []
    overlaps = "two that overlap in time are two" if images.timed else "no times tell which are two"
    reason = f"{images.tracked} of {images.count} images are in tracks: each is one person, {overlaps}"
    return [Choice("tracks", {"NPLP.TRACKS": TRACKS_CONSTRAIN}, reason, "constrain the clusters")]


def _rules() -> Choice:
    keys = {"NPLP.RULES.GIANT_CLUSTER": "lower", "NPLP.RULES.EQUAL_SCORES": "skip"}
    return Choice("a cluster of most images", keys, "it would teach that all are one", "broken up")


def _workers(machine: MachineFacts) -> Choice:
    workers = min(WORKERS_AT_MOST, machine.cores - 1) if machine.gpu else 0
    reason = (
        f"of {machine.cores} cores" if machine.gpu else "the processor trains: nothing is gained by others"
    )
    return Choice("loader workers", {"DATALOADER.NUM_WORKERS": workers}, reason)
