"""What the toolbox's dense ways of evaluating take of memory, and what there is.

Shapes: Q queries, G gallery images, N = Q + G.
"""

from pathlib import Path

from fastreid.config import CfgNode

__all__ = ["available_bytes", "dense_bytes", "dense_keys"]

ROC_BYTES = 60
"""Of each pair of a query and a gallery image: ranks, scores, labels and the curve over all of them."""

MEMORY = "/proc/meminfo"
LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""A container's limit and what it uses, in the two versions of the kernel's control groups."""


def dense_keys(cfg: CfgNode) -> list[str]:
    """Return the keys of the configuration that ask for dense matrices."""
    return [f"TEST.{name}.ENABLED" for name in ("ROC", "AQE") if cfg.TEST[name].ENABLED]


def dense_bytes(cfg: CfgNode, queries: int, gallery: int) -> int:
    """Return what an evaluation's dense matrices take at their peak; 0 where none is asked for.

    Query expansion holds one N x N float32 matrix, or two where it is repeated, and the ROC curve some
    arrays over all Q x G pairs. The parts come one after another.

    Args:
        cfg: ``TEST.ROC`` and ``TEST.AQE`` are read.
        queries: Q.
        gallery: G.
    """
    matrix, pairs = 4 * (queries + gallery) ** 2, queries * gallery
    test = cfg.TEST
    expansion = matrix * min(2, test.AQE.QE_TIME) if test.AQE.ENABLED else 0
    return max(expansion, ROC_BYTES * pairs if test.ROC.ENABLED else 0)


def available_bytes() -> int | None:
    """Return how much memory this process may still take, ``None`` where the system does not say."""
    free = [1024 * amount for amount in [_number(MEMORY, "MemAvailable:")] if amount is not None]
    for limit, used in LIMITS:
        # A group without a limit says "max".
        most, taken = _number(limit), _number(used)
        if most is not None and taken is not None:
            free.append(max(0, most - taken))
    return min(free, default=None)


def _number(path: str, name: str = "") -> int | None:
    """Return the number in a file, or the one after ``name``; ``None`` where there is none."""
    try:
        words = Path(path).read_text(encoding="ascii").split()
        return int(words[words.index(name) + 1 if name else 0])
    except (OSError, ValueError, IndexError):
        return None
