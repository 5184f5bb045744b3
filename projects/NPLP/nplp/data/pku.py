"""PKU-Reid, a small real camera network: a development task that two cores can train on.

Ma, Liu, Hu, Wang, Sun, "Orientation driven bag of appearances for person re-identification" (arXiv
1605.02464): people in two cameras, seen from eight directions in each. The set is published without a split,
so its people are split here by a seed; one seed is one task.
"""

import os
import re

import numpy as np

from nplp.config.choices import PKU_REID
from nplp.data.benchmarks import NO_NAME, MissingError, image_files
from nplp.data.items import Subset
from nplp.errors import UserError

__all__ = ["PKU_REID", "read_pku_reid"]

FOLDER = os.path.join("pku-reid", "images")
NAME = re.compile(r"(\d+)_(\d+)_(\d+)\.", re.ASCII)
"""Person, camera and direction: ``0001_01_1.png``."""
QUERIES = 2
"""Images of a person in a camera that are queries."""
FEWEST = 4
"""People that two halves of two each need."""


def read_pku_reid(subset: str, root: str, split: int, held_out: bool) -> Subset:
    """Return the items of a task on PKU-Reid.

    Of the eight images that a camera has of a person to evaluate, two are queries, drawn by the seed, and the
    others are in the gallery.

    Args:
        subset: ``"train"``, ``"query"`` or ``"gallery"``.
        root: the folder that holds ``pku-reid/images``.
        split: seed of the split of people into two halves, and of the queries.
        held_out: train on one half and evaluate on the other; if not, do both on all people.

    Raises:
        MissingError: if the folder is not there.
        UserError: if there are fewer than four people.
    """
    folder = os.path.join(root, FOLDER)
    if not os.path.isdir(folder):
        raise MissingError(folder)
    found = Subset([], source=repr(folder))
    views: dict[tuple[int, int], list[str]] = {}
    for path in sorted(image_files(folder, found)):
        match = NAME.match(os.path.basename(path))
        if match is None:
            found.leave_out(NO_NAME, path)
        else:
            views.setdefault((int(match[1]), int(match[2])), []).append(path)
    people = sorted({person for person, _ in views})
    if len(people) < FEWEST:
        raise UserError(f"{PKU_REID}: {folder!r} holds images of {len(people)} people: it takes {FEWEST}")
    generator = np.random.default_rng(split)
    order = generator.permutation(people).tolist()
    chosen = set(people)
    if held_out:
        half = len(people) // 2
        chosen = set(order[:half] if subset == "train" else order[half:])
        found.source += f", {'one' if subset == 'train' else 'the other'} half of the people by split {split}"
    for (person, camera), paths in sorted(views.items()):
        queries = generator.choice(len(paths), min(QUERIES, len(paths)), replace=False)
        if person in chosen:
            found.items.extend(
                (path, person, camera)
                for number, path in enumerate(paths)
                if subset == "train" or (number in queries) == (subset == "query")
            )
    found.items.sort(key=lambda item: item[0])
    return found
