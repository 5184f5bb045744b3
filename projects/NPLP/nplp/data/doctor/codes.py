"""What doctor can find: each code with its severity, what it means and what to do about it."""

from dataclasses import dataclass

__all__ = ["CODES", "ERROR", "NOTE", "SEVERITIES", "WARNING", "Code"]

ERROR = "error"
"""Training or evaluation would fail, or its figures would be wrong."""
WARNING = "warning"
"""Something is most likely not as it was meant, or makes the result worse."""
NOTE = "note"
"""Worth knowing; as a rule nothing is to be done."""
SEVERITIES = (ERROR, WARNING, NOTE)
"""From the gravest."""


@dataclass(frozen=True)
class Code:
    """A kind of finding.

    Attributes:
        severity: of :data:`SEVERITIES`.
        meaning: what was found, and why it matters, for the documentation.
        remedy: what to do.
    """

    severity: str
    meaning: str
    remedy: str


CODES = {
    # What stops a run, or makes its figures wrong.
    "no-images": Code(
        ERROR,
        "No image is left to train on or to evaluate with.",
        "look at the files that were ignored, and name or list the images as the documentation of data says",
    ),
    "unreadable-images": Code(
        ERROR,
        "Files cannot be decoded: missing, empty, damaged, of no image format, or with more than 8 bits a "
        "channel. A run stops at them.",
        "replace or remove them; nplp adapt --skip-unreadable (DATASETS.SKIP_CORRUPT True) leaves them out "
        "of a training set",
    ),
    "missing-files": Code(
        ERROR,
        "Files that the data name do not exist. A run stops at them.",
        "put them where the data say, or remove their rows; nplp adapt --skip-unreadable "
        "(DATASETS.SKIP_CORRUPT True) leaves them out of a training set",
    ),
    "split-unreadable": Code(
        ERROR,
        "The list or the folder of a split is there but cannot be used.",
        "repair what the message names",
    ),
    "identities-in-train-and-test": Code(
        ERROR,
        "People of the training set are in query or gallery too. Where their identities train, the figures "
        "are of people whom the model knows.",
        "put all images of a person into one of the two",
    ),
    "query-or-gallery-missing": Code(
        ERROR,
        "There are queries and no gallery, or a gallery and no queries, so nothing can be evaluated.",
        "add the missing split, or take both away to train alone",
    ),
    "no-query-with-match": Code(
        ERROR,
        "No query has an image of its identity in another camera of the gallery, so nothing can be "
        "evaluated.",
        "add gallery images of these people from other cameras, and see that identities have the same names "
        "in query and gallery",
    ),
    "queries-without-identity": Code(
        ERROR,
        "Nobody knows who these queries show, so nothing can be evaluated with them.",
        "name their identities, or make them training images",
    ),
    # What costs accuracy, or looks like a mistake.
    "split-missing": Code(
        WARNING,
        "The folder or the list of a split is not there.",
        "add it where it is needed: train for training, query and gallery for evaluation",
    ),
    "counts-differ-from-published": Code(
        WARNING,
        "The benchmark has other numbers of images, identities or cameras than its publication says. Figures "
        "are then not comparable with published ones; a subset on purpose is fine.",
        "get the missing files, or say beside the figures that a subset was used",
    ),
    "ignored-images": Code(
        WARNING,
        "Images were ignored, most often because their names or rows do not say what they show.",
        "rename them or correct their rows, or give --camera-pattern or --columns",
    ),
    "queries-without-match": Code(
        WARNING,
        "Queries have no image of their identity in another camera of the gallery. They count in no metric.",
        "add gallery images of these people from other cameras, or remove the queries",
    ),
    "gallery-without-identity": Code(
        WARNING,
        "Nobody knows who these gallery images show. Each counts as a wrong answer to every query, also "
        "where it shows the right person.",
        "name their identities, or remove them unless they show none of the people searched for",
    ),
    "no-cameras": Code(
        WARNING,
        "No camera is known. Epsilon is then estimated over all pairs instead of pairs of different cameras, "
        "camera means cannot be subtracted, and evaluation cannot leave out the query's own camera.",
        "put the images into a folder for each camera, or give --camera-pattern or a column of cameras",
    ),
    "one-camera": Code(
        WARNING,
        "All images come from one camera. Epsilon is then estimated over all pairs, and nothing is learned "
        "of how people look in another camera.",
        "add images of other cameras, or see whether the pattern or the column of cameras is right",
    ),
    "few-images": Code(
        WARNING,
        "The training set has fewer images than a batch of the paper, 16 people with 4 images each.",
        "add images",
    ),
    "few-images-in-camera": Code(
        WARNING,
        "A camera has fewer than 16 training images. The mean of so few is off by a quarter of their spread "
        "or more, so that camera means hurt, and they make few clusters of at least four images.",
        "add images of this camera, or leave it out",
    ),
    "dominant-camera": Code(
        WARNING,
        "More than two thirds of the training images come from one camera, so most pairs that make clusters "
        "are of one camera too.",
        "take fewer images of this camera, such as every other frame",
    ),
    "camera-not-in-train": Code(
        WARNING,
        "A camera of query or gallery has no training image: the model does not adapt to it, and there is no "
        "mean of it to subtract.",
        "add training images of this camera, or see whether it has another name there",
    ),
    "camera-without-shared-identity": Code(
        WARNING,
        "Nobody who is seen by this camera is seen by another one, so nothing can be learned across them.",
        "see whether identities have the same names in all cameras, or leave the camera out",
    ),
    "no-identity-in-two-cameras": Code(
        WARNING,
        "No identity is seen by two cameras, so nothing can be learned across cameras.",
        "see whether identities are counted anew in each camera, and give a person one name in all",
    ),
    "one-identity": Code(
        WARNING,
        "All training images have one and the same identity. A run takes it for unknown.",
        "name the people, or leave the identities out",
    ),
    "track-of-two-identities": Code(
        WARNING,
        "A track shows more than one identity: the tracker jumped from one person to another, or tracks are "
        "counted anew in each video.",
        "split the track, or give tracks names that are unique within a camera",
    ),
    "duplicates-in-train-and-test": Code(
        WARNING,
        "The same picture is in the training set and in query or gallery, so figures may be too good.",
        "remove it from one of them",
    ),
    "duplicates-of-two-identities": Code(
        WARNING,
        "The same picture has two identities. One of them is wrong.",
        "correct the identity, or remove the copy",
    ),
    "duplicates-in-two-cameras": Code(
        WARNING,
        "The same picture is said to come from two cameras, as when a file was copied into two folders.",
        "remove the copy, or correct the camera",
    ),
    "near-duplicates-in-train-and-test": Code(
        WARNING,
        "Nearly the same picture is in the training set and in query or gallery, so figures may be too good.",
        "look at the pairs, and remove copies from one of them",
    ),
    "near-duplicates-of-two-identities": Code(
        WARNING,
        "Nearly the same picture has two identities. Most often one of them is wrong.",
        "look at the pairs, and correct the identity",
    ),
    "near-duplicates-in-two-cameras": Code(
        WARNING,
        "Nearly the same picture is said to come from two cameras, as when a file was saved again under "
        "another name.",
        "look at the pairs, and remove copies",
    ),
    "blank-images": Code(
        WARNING,
        "Images are of one colour: they show nobody.",
        "remove them",
    ),
    "small-images": Code(
        WARNING,
        "Images are less than 16 pixels wide or 32 high, an eighth of what the model sees.",
        "remove them, or crop from frames of a higher resolution",
    ),
    "unusual-shapes": Code(
        WARNING,
        "Images are wider than high, or more than five times as high as wide. A person who stands is "
        "two to three times as high as wide, and others are distorted when they are resized. Wide images may "
        "be whole frames, which must be cropped first.",
        "look at them; cut frames into crops of one person each",
    ),
    # What is ordinary, and good to know.
    "ignored-files": Code(
        NOTE,
        "Files were ignored as they should be: hidden ones, those of no image format, junk of a benchmark.",
        "nothing, unless images are among them",
    ),
    "unknown-identities": Code(
        NOTE,
        "Some training images have an identity and others none. Known ones are used for figures only.",
        "nothing; training with identities needs all of them",
    ),
    "identities-in-one-camera": Code(
        NOTE,
        "Identities are seen by one camera only. They teach nothing across cameras.",
        "nothing, unless they are many",
    ),
    "identities-with-one-image": Code(
        NOTE,
        "Identities have one training image. They are outliers to the clustering, which wants four images.",
        "nothing, unless they are many",
    ),
    "cameras-without-common-identity": Code(
        NOTE,
        "Pairs of cameras share no identity, as cameras far from each other do.",
        "nothing, unless people do walk from one to the other",
    ),
    "duplicates": Code(
        NOTE,
        "Pictures are there more than once, within one camera, identity and part of the data.",
        "remove copies; frames of a video that stood still are ordinary",
    ),
    "near-duplicates": Code(
        NOTE,
        "Pictures are nearly the same within one camera, identity and part of the data, as consecutive "
        "frames are.",
        "nothing; taking fewer frames a second saves time",
    ),
    "mixed-modes": Code(
        NOTE,
        "Images are stored otherwise than in three colours of 8 bits: grey, with transparency, with a "
        "palette. All become RGB when they are read; transparency is dropped.",
        "nothing, unless a background was meant to be transparent",
    ),
    "not-decoded": Code(
        NOTE,
        "The images were not decoded: sizes, kinds, damage and duplicates are not known.",
        "leave --quick away to look into the images",
    ),
}
"""Kinds of findings by their codes, the gravest first, in the order in which they are shown."""
