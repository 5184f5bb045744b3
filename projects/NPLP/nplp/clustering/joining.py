"""Groups that are joined one after the other, some of which must stay apart. Shapes: N samples."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["Groups"]


class Groups:
    """A union-find over N samples that knows which groups must not be joined.

    Each sample begins as a group of its own; a group is named by its lowest sample. Memory: O(N) and two
    entries for each pair of groups that must stay apart.
    """

    def __init__(self, count: int) -> None:
        """Begin with `count` groups of one sample."""
        self._parent = list(range(count))
        self._apart: dict[int, set[int]] = {}

    def root(self, sample: int) -> int:
        """Return the lowest sample of a sample's group."""
        parent = self._parent
        while parent[sample] != sample:
            parent[sample] = parent[parent[sample]]
            sample = parent[sample]
        return sample

    def roots(self) -> np.ndarray:
        """Return the lowest sample of each sample's group, [N] int64."""
        return np.array([self.root(sample) for sample in range(len(self._parent))], dtype=np.int64)

    def apart_from(self, root: int) -> set[int]:
        """Return the groups that must not be joined with one; not to be changed."""
        return self._apart.get(root, set())

    def keep_apart(self, first: int, second: int) -> bool:
        """Keep the groups of two samples apart; False, and nothing is done, where they are one group."""
        one, other = self.root(first), self.root(second)
        if one == other:
            return False
        self._apart.setdefault(one, set()).add(other)
        self._apart.setdefault(other, set()).add(one)
        return True

    def join(self, samples: Iterable[int]) -> bool:
        """Join the groups of some samples; False, and nothing is done, where two of them must stay apart."""
        roots = {self.root(sample) for sample in samples}
        if any(not roots.isdisjoint(self.apart_from(root)) for root in roots):
            return False
        target = min(roots)
        for root in roots - {target}:
            self._parent[root] = target
            for other in self._apart.pop(root, ()):
                self._apart[other].discard(root)
                self._apart[other].add(target)
                self._apart.setdefault(target, set()).add(other)
        return True
