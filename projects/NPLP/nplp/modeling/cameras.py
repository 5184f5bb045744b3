"""Which row of a table a camera has: what a model keeps of its cameras is in tables of K + 1 rows.

Shapes: B images in the batch, K cameras that the model knows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nplp.errors import UserError

__all__ = ["Cameras", "StateOfTables", "read_names"]


class StateOfTables(nn.Module):
    """A module whose buffers have no values, and no entry in ``state_dict``, until they are measured.

    ``load_state_dict`` takes tables of any number of rows; where it is given none of them, the module has
    none afterwards. So checkpoints from before, copies of the weights and the toolbox's own checkpointer,
    which leaves out what has another shape, all work.
    """

    tables: tuple[str, ...] = ()
    """Names of the buffers; a subclass says which."""

    def __init__(self) -> None:
        super().__init__()
        for name in self.tables:
            self.register_buffer(name, None)
        # Goes where the model goes, so that tables come to lie there.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    _place: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self._place.device

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        held = [state_dict[prefix + name] for name in self.tables if prefix + name in state_dict]
        whole = len(held) == len(self.tables)
        for name, value in zip(self.tables, held if whole else self.tables, strict=True):
            # Room of the right shape, which the values are copied into.
            setattr(self, name, torch.empty_like(value, device=self.device) if whole else None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Cameras(StateOfTables):
    """The names of the K cameras that a model knows, and the row of each: 0 to K - 1 in the order of names.

    Row K is that of every other camera. The order is that of :func:`nplp.data.datasets.index_cameras`, so
    that the camera numbers of an adaptation's training batches are rows.

    Attributes:
        names: the JSON text of the list of names, uint8; ``None`` before :meth:`assign`.
    """

    tables = ("names",)
    names: torch.Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, int] = {}

    def assign(self, names: Iterable[str]) -> None:
        """Know these cameras, and no others."""
        known = sorted(set(names))
        text = json.dumps(known).encode("utf-8")
        self.names = torch.tensor(list(text), dtype=torch.uint8, device=self.device)
        self._rows = {name: row for row, name in enumerate(known)}

    @property
    def known(self) -> tuple[str, ...]:
        """The names in the order of their rows."""
        return tuple(self._rows)

    @property
    def other(self) -> int:
        """K, the row of a camera that is not known."""
        return len(self._rows)

    def rows(self, cameras: Sequence[object] | torch.Tensor | None, count: int) -> torch.Tensor:
        """Return each image's row [B] int64, on the module's device.

        Args:
            cameras: the names of B cameras; or their rows [B] int64, where what is no row stands for an
                unknown camera; or ``None``, where no image's camera is known.
            count: B.

        Raises:
            ValueError: if there are not B of them.
        """
        device = self.device
        if cameras is None:
            return torch.full((count,), self.other, dtype=torch.int64, device=device)
        if isinstance(cameras, torch.Tensor):
            given = cameras.to(device=device, dtype=torch.int64)
            rows = torch.where((given < 0) | (given > self.other), self.other, given)
        else:
            found = [self._rows.get(str(name), self.other) for name in cameras]
            rows = torch.tensor(found, dtype=torch.int64, device=device)
        if rows.dim() != 1 or rows.shape[0] != count:
            raise ValueError(f"{count} images need as many cameras, got {tuple(rows.shape)}")
        return rows

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if self.names is None:
            self._rows = {}
            return
        text = bytes(self.names.to(torch.uint8).cpu().tolist()).decode("utf-8", "replace")
        self._rows = {
            name: row for row, name in enumerate(read_names(text, "'cameras.names' of the weights"))
        }


def read_names(text: str, source: str) -> list[str]:
    """Return the names of cameras in the order of their rows.

    Args:
        text: a JSON list, which may come from a stranger.
        source: the file, for the message.

    Raises:
        UserError: if it is no list of different names in order.
    """
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or names != sorted(set(names))
    ):
        raise UserError(f"{source} has no list of cameras that can be read: it is damaged, use another file")
    return names
