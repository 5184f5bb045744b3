"""What is found in the images themselves."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nplp.data.doctor.duplicates import Copies
from nplp.data.doctor.findings import EXAMPLES, Finding
from nplp.data.doctor.look import Looks
from nplp.data.items import counted

__all__ = ["check_copies", "check_images"]

NARROWEST, LOWEST = 16, 32
"""Width and height in pixels: an eighth of 128 x 256, which the model sees."""
ASPECTS = (1.0, 5.0)
"""Heights by widths that are not unusual."""
PLAIN = "RGB"


def check_images(looks: Looks, shown: Sequence[str]) -> list[Finding]:
    """Return findings on files, sizes and kinds.

    Args:
        looks: what was seen of N images.
        shown: [N] what images are called.
    """
    findings = _faults(looks, shown)
    if not looks.decoded:
        return [*findings, Finding.of("not-decoded", "the images were not decoded")]
    width, height = looks.sizes.T
    readable = looks.readable
    aspect = np.divide(height, width, out=np.full(len(width), 2.0), where=readable)
    small = readable & ((width < NARROWEST) | (height < LOWEST))
    unusual = readable & ((aspect < ASPECTS[0]) | (aspect > ASPECTS[1]))
    size = [f"{name} ({w} x {h})" for name, w, h in zip(shown, width.tolist(), height.tolist(), strict=True)]
    total = int(readable.sum())
    wide = int((readable & (aspect < ASPECTS[0])).sum())
    tall = int(unusual.sum()) - wide
    for code, chosen, text in (
        ("blank-images", looks.blank, "are of one colour"),
        ("small-images", small, f"are less than {NARROWEST} wide or {LOWEST} high"),
        (
            "unusual-shapes",
            unusual,
            f"are wider than high ({wide:,}) or more than five times as high as wide ({tall:,})",
        ),
    ):
        numbers = np.flatnonzero(chosen)
        if len(numbers):
            examples = [size[number] for number in numbers[:EXAMPLES].tolist()]
            findings.append(Finding.of(code, f"{len(numbers):,} of {total:,} images {text}", examples))
    return findings + _modes(looks, shown)


def _faults(looks: Looks, shown: Sequence[str]) -> list[Finding]:
    if not looks.faults:
        return []
    reasons = Counter(looks.faults.values()).most_common()
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons[:EXAMPLES])
    more = f" and {len(reasons) - EXAMPLES} other reasons" if len(reasons) > EXAMPLES else ""
    examples = [f"{shown[number]} ({fault})" for number, fault in sorted(looks.faults.items())[:EXAMPLES]]
    total = counted(len(shown), "image", "images")
    return [
        Finding.of(
            "unreadable-images", f"{len(looks.faults):,} of {total} cannot be read: {told}{more}", examples
        )
    ]


def _modes(looks: Looks, shown: Sequence[str]) -> list[Finding]:
    others = [number for number, mode in enumerate(looks.modes) if mode not in ("", PLAIN)]
    if not others:
        return []
    counts = Counter(looks.modes[number] for number in others).most_common()
    told = ", ".join(f"{count:,} {mode}" for mode, count in counts)
    examples = [f"{shown[number]} ({looks.modes[number]})" for number in others[:EXAMPLES]]
    total = counted(int(looks.readable.sum()), "image", "images")
    return [Finding.of("mixed-modes", f"{len(others):,} of {total} are not stored as RGB: {told}", examples)]


def check_copies(copies: Copies, shown: Sequence[str], near: bool) -> list[Finding]:
    """Return a finding for each kind of copies, of equal pixels or ``near`` ones."""
    texts = {
        "train-and-test": "between the training set and query or gallery",
        "two-identities": "between two identities",
        "two-cameras": "between two cameras",
        "ordinary": "within one camera, identity and part of the data",
    }
    findings = []
    for kind, text in texts.items():
        found, images = copies.found[kind], int(copies.images[kind].sum())
        if not found:
            continue
        linking = {"ordinary": "", "train-and-test": "-in-", "two-identities": "-of-", "two-cameras": "-in-"}
        name = kind if kind != "ordinary" else ""
        code = f"{'near-' if near else ''}duplicates{linking[kind]}{name}"
        groups = counted(found, "pair of", "pairs of") if near else counted(found, "group of", "groups of")
        alike = "nearly the same picture" if near else "the same pixels"
        message = f"{counted(images, 'image', 'images')} in {groups} {alike} {text}"
        joined = "~" if near else "="
        examples = [f"{shown[one]} {joined} {shown[other]}" for one, other in copies.examples[kind]]
        findings.append(Finding.of(code, message, examples))
    return findings
