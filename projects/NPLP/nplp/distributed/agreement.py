"""All processes of a run must be of one code, one configuration and the same data: else they stop at once.

Where they differ, each computes its part of another run, and nobody would see it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from nplp.distributed.collectives import from_all
from nplp.errors import UserError

__all__ = ["check_agreement", "code_sum"]


def check_agreement(facts: Mapping[str, str]) -> None:
    """Check that all processes have the same facts; every process must call this.

    Args:
        facts: by what they are called in the message, such as "SOLVER.BASE_LR" or "the code", the same in all
            processes; values that are long should be sums.

    Raises:
        UserError: on every process, naming what differs in the first process that does, and both values.
    """
    all_facts = from_all(dict(facts))
    for rank, others in enumerate(all_facts):
        for name in sorted(all_facts[0].keys() | others.keys()):
            here, there = all_facts[0].get(name, "nothing"), others.get(name, "nothing")
            if here != there:
                raise UserError(
                    f"processes 0 and {rank} of {len(all_facts)} differ in {name}: {here} and {there}; give "
                    "all of them the same code, configuration and data"
                )


def code_sum() -> str:
    """Return a sum of this package's sources, 12 digits; about 5 ms."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]
