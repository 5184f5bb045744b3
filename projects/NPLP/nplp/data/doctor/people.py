"""What is found in splits and identities, without a look at the images."""

from collections.abc import Sequence

import numpy as np

from nplp.data.doctor.counting import cameras_by_identity
from nplp.data.doctor.findings import EXAMPLES, Finding
from nplp.data.doctor.labels import Labels
from nplp.data.items import counted
from nplp.evaluation.ranking import queries_without_match

__all__ = ["check_people"]

BATCH = 64
"""Images of a training batch in the paper: 16 people with 4 images each."""


def check_people(labels: Labels, shown: Sequence[str], has_splits: bool) -> list[Finding]:
    """Return findings on the splits and on the people in them.

    Args:
        labels: of N images.
        shown: [N] what images are called.
        has_splits: whether the data say what is for training and what for evaluation.
    """
    findings = [
        *_few_images(labels),
        *_in_both(labels),
        *_training_identities(labels),
        *_tracks(labels, shown),
    ]
    return findings + (_evaluation(labels, shown) if has_splits else [])


def _few_images(labels: Labels) -> list[Finding]:
    count = int(labels.chosen("train").sum())
    if not 0 < count < BATCH:
        return []
    return [
        Finding.of(
            "few-images",
            f"{counted(count, 'training image', 'training images')}, fewer than a batch of {BATCH}",
        )
    ]


def _in_both(labels: Labels) -> list[Finding]:
    known, train = labels.identities >= 0, labels.chosen("train")
    training, testing = (np.unique(labels.identities[known & side]) for side in (train, ~train))
    both = np.intersect1d(training, testing)
    if not len(both):
        return []
    message = f"{len(both):,} of {counted(len(testing), 'identity', 'identities')} of query and gallery "
    message += "are in the training set too"
    return [Finding.of("identities-in-train-and-test", message, _names(labels, both))]


def _names(labels: Labels, identities: np.ndarray) -> list[str]:
    return [f"identity {labels.identity_names[number]}" for number in identities[:EXAMPLES].tolist()]


def _training_identities(labels: Labels) -> list[Finding]:
    train = labels.chosen("train")
    people = labels.identities[train]
    known = people >= 0
    if not known.any():
        return []
    findings = []
    counts = np.bincount(people[known])
    distinct = np.flatnonzero(counts)
    if len(distinct) == 1 and len(people) > 1:
        message = f"all {int(known.sum()):,} training images with an identity have the same one"
        findings.append(Finding.of("one-identity", message, _names(labels, distinct)))
    if not known.all():
        message = f"{int((~known).sum()):,} of {len(people):,} training images have no identity"
        findings.append(Finding.of("unknown-identities", message))
    alone = np.flatnonzero(counts == 1)
    if len(alone):
        message = (
            f"{len(alone):,} of {counted(len(distinct), 'identity', 'identities')} have one training image"
        )
        findings.append(Finding.of("identities-with-one-image", message, _names(labels, alone)))
    return findings + _across_cameras(labels, train)


def _across_cameras(labels: Labels, train: np.ndarray) -> list[Finding]:
    """Return what is found on identities whom one training camera sees, where there are two cameras."""
    pairs = cameras_by_identity(labels, train)
    if len(np.unique(pairs[:, 1])) < 2:
        return []
    identities, cameras = np.unique(pairs[:, 0], return_counts=True)
    alone = identities[cameras == 1]
    if not len(alone):
        return []
    code = "identities-in-one-camera" if len(alone) < len(identities) else "no-identity-in-two-cameras"
    message = (
        f"{len(alone):,} of {counted(len(identities), 'identity', 'identities')} of the training set are "
    )
    return [Finding.of(code, message + "seen by one camera only", _names(labels, alone))]


def _tracks(labels: Labels, shown: Sequence[str]) -> list[Finding]:
    both = np.flatnonzero((labels.tracks >= 0) & (labels.identities >= 0))
    pairs, first = np.unique(
        np.column_stack([labels.tracks[both], labels.identities[both]]), axis=0, return_index=True
    )
    again = np.flatnonzero(pairs[1:, 0] == pairs[:-1, 0]) + 1
    if not len(again):
        return []
    tracks = len(np.unique(pairs[again, 0]))
    examples = [
        f"{shown[both[first[place - 1]]]} and {shown[both[first[place]]]}"
        for place in again[:EXAMPLES].tolist()
    ]
    message = f"{counted(tracks, 'track shows', 'tracks show')} more than one identity"
    return [Finding.of("track-of-two-identities", message, examples)]


def _evaluation(labels: Labels, shown: Sequence[str]) -> list[Finding]:
    query, gallery = labels.chosen("query"), labels.chosen("gallery")
    if not query.any() and not gallery.any():
        return []
    if not query.any() or not gallery.any():
        there, missing = ("query", "gallery") if query.any() else ("gallery", "query")
        count = counted(int((query | gallery).sum()), "image", "images")
        return [Finding.of("query-or-gallery-missing", f"{count} of {there}, none of {missing}")]
    findings = []
    for code, chosen, what in (
        ("queries-without-identity", query, "queries"),
        ("gallery-without-identity", gallery, "gallery images"),
    ):
        unknown = np.flatnonzero(chosen & (labels.identities < 0))
        if len(unknown):
            message = f"{len(unknown):,} of {int(chosen.sum()):,} {what} have no identity"
            examples = [shown[number] for number in unknown[:EXAMPLES].tolist()]
            findings.append(Finding.of(code, message, examples))
    return findings + _matches(labels, shown, query, gallery)


def _matches(labels: Labels, shown: Sequence[str], query: np.ndarray, gallery: np.ndarray) -> list[Finding]:
    asked = np.flatnonzero(query & (labels.identities >= 0))
    answers = np.flatnonzero(gallery & (labels.identities >= 0))
    # Without cameras no image of the gallery is left out, as if queries came from cameras of their own.
    cameras = labels.cameras if labels.camera_names else np.where(query, 0, 1)
    alone = queries_without_match(
        labels.identities[asked], labels.identities[answers], cameras[asked], cameras[answers]
    )
    if not len(alone):
        return []
    where = "in another camera of the gallery" if labels.camera_names else "in the gallery"
    message = f"{len(alone):,} of {counted(len(asked), 'query has', 'queries have')} no match {where}"
    examples = [shown[number] for number in asked[alone[:EXAMPLES]].tolist()]
    code = "queries-without-match" if len(alone) < len(asked) else "no-query-with-match"
    return [Finding.of(code, message, examples)]
