"""What is found in the cameras, without a look at the images.

Shapes: C cameras.
"""

import numpy as np
from scipy import sparse

from nplp.data.doctor.counting import cameras_by_identity
from nplp.data.doctor.findings import EXAMPLES, Finding
from nplp.data.doctor.labels import Labels
from nplp.data.items import counted

__all__ = ["DOMINANT", "FEWEST", "check_cameras"]

FEWEST = 16
"""Training images of a camera. The mean of n images is off by 1 / sqrt(n) of their spread, at 16 by a
quarter; a cluster takes four."""
DOMINANT = 2 / 3
"""Share of the training images that one camera may have."""


def check_cameras(labels: Labels) -> list[Finding]:
    """Return findings on the cameras, on those of the training set where there is one."""
    train = labels.chosen("train")
    looked_at = train if train.any() else np.ones(len(train), bool)
    if not looked_at.any():
        return []
    if not labels.camera_names:
        return [Finding.of("no-cameras", f"no camera is known of {counted(len(train), 'image', 'images')}")]
    counts = np.bincount(
        labels.cameras[looked_at & (labels.cameras >= 0)], minlength=len(labels.camera_names)
    )
    seen = np.flatnonzero(counts)
    findings = []
    if len(seen) == 1:
        message = f"all {int(counts.sum()):,} images come from one camera"
        findings.append(Finding.of("one-camera", message, _names(labels, seen)))
    else:
        findings += _shares(labels, counts, seen)
    if train.any():
        findings += _untrained(labels, counts, train)
        findings += _few(labels, counts, seen)
    return findings + _shared_identities(labels, looked_at)


def _names(labels: Labels, cameras: np.ndarray) -> list[str]:
    return [f"camera {labels.camera_names[camera]}" for camera in cameras[:EXAMPLES].tolist()]


def _shares(labels: Labels, counts: np.ndarray, seen: np.ndarray) -> list[Finding]:
    largest, total = int(counts.max()), int(counts.sum())
    if largest <= DOMINANT * total:
        return []
    message = f"one of {len(seen)} cameras has {largest:,} of {total:,} images ({largest / total:.0%})"
    return [Finding.of("dominant-camera", message, _names(labels, np.array([counts.argmax()])))]


def _untrained(labels: Labels, counts: np.ndarray, train: np.ndarray) -> list[Finding]:
    tested = np.unique(labels.cameras[~train])
    missing = np.array([camera for camera in tested.tolist() if camera >= 0 and not counts[camera]], np.int64)
    if not len(missing):
        return []
    message = f"{len(missing)} of {counted(len(tested), 'camera', 'cameras')} of query and gallery have no "
    return [Finding.of("camera-not-in-train", message + "training image", _names(labels, missing))]


def _few(labels: Labels, counts: np.ndarray, seen: np.ndarray) -> list[Finding]:
    few = seen[counts[seen] < FEWEST]
    if not len(few):
        return []
    message = f"{counted(len(few), 'camera has', 'cameras have')} fewer than {FEWEST} training images"
    named = zip(_names(labels, few), counts[few].tolist(), strict=False)
    return [Finding.of("few-images-in-camera", message, [f"{name}: {count}" for name, count in named])]


def _shared_identities(labels: Labels, chosen: np.ndarray) -> list[Finding]:
    """Return what is found on cameras that see none of each other's people; [C, C] integers of memory."""
    pairs = cameras_by_identity(labels, chosen)
    seen = np.unique(pairs[:, 1])
    if len(seen) < 2:
        return []
    shape = (len(labels.identity_names), len(labels.camera_names))
    sees = sparse.csr_matrix((np.ones(len(pairs), np.int64), (pairs[:, 0], pairs[:, 1])), shape)
    common = (sees.T @ sees).toarray()[np.ix_(seen, seen)]
    apart = ~common.astype(bool)
    if apart[np.triu_indices(len(seen), 1)].all():
        # No identity is seen by two cameras: that is said of the people.
        return []
    alone = apart.sum(axis=1) == len(seen) - 1
    findings = []
    if alone.any():
        message = (
            f"{counted(int(alone.sum()), 'camera shares', 'cameras share')} no identity with another one"
        )
        findings.append(Finding.of("camera-without-shared-identity", message, _names(labels, seen[alone])))
    first, second = np.nonzero(np.triu(apart & ~alone[:, None] & ~alone[None, :], 1))
    if len(first):
        total = len(seen) * (len(seen) - 1) // 2
        names = labels.camera_names
        examples = [
            f"cameras {names[seen[one]]} and {names[seen[other]]}"
            for one, other in zip(first[:EXAMPLES].tolist(), second[:EXAMPLES].tolist(), strict=True)
        ]
        message = f"{len(first):,} of {total:,} pairs of cameras share no identity"
        findings.append(Finding.of("cameras-without-common-identity", message, examples))
    return findings
