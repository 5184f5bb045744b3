"""What the processes of one run must have in common, checked before training where there are several."""

import hashlib
import os
from collections.abc import Sequence

import yaml
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import nn

from nplp.config.dotted import flat
from nplp.data.datasets import Item
from nplp.distributed.agreement import check_agreement, code_sum
from nplp.engine.resuming import WITHOUT_A_WORD

__all__ = ["check_same_data", "check_same_program", "check_same_weights"]


def check_same_program(cfg: CfgNode) -> None:
    """Check that all processes have this code and this configuration; every process must call this.

    Keys that say where and how fast may differ.

    Raises:
        UserError: on every process, naming the first key that differs, or the code.
    """
    if comm.get_world_size() == 1:
        return
    keys = flat(yaml.safe_load(cfg.dump()))
    facts = {key: repr(value) for key, value in keys.items() if key not in WITHOUT_A_WORD}
    check_agreement({"the code of nplp (a sum of its sources)": code_sum(), **facts})


def check_same_data(what: str, items: Sequence[Item]) -> None:
    """Check that all processes have found the same images; every process must call this.

    Folders may be elsewhere on each machine: names of files, identities and cameras are compared.

    Args:
        what: what they are, for the message.
        items: as they were read, in their order.

    Raises:
        UserError: on every process, with the numbers of images and sums of them.
    """
    if comm.get_world_size() == 1:
        return
    total = hashlib.sha256()
    for path, identity, camera in items:
        total.update(f"{os.path.basename(path)}\0{identity}\0{camera}\n".encode("utf-8", "surrogateescape"))
    check_agreement({what: f"{len(items)} images, sum {total.hexdigest()[:12]}"})


def check_same_weights(model: nn.Module, path: str) -> None:
    """Check that all processes have loaded the same weights; every process must call this.

    Each reads the file by itself, and every machine may have its own.

    Args:
        model: what was loaded into.
        path: where from, for the message.

    Raises:
        UserError: on every process, with sums of the weights.
    """
    if comm.get_world_size() == 1:
        return
    total = hashlib.sha256()
    for name, value in model.state_dict().items():
        total.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    check_agreement({f"the weights of {path}": f"sum {total.hexdigest()[:12]}"})
