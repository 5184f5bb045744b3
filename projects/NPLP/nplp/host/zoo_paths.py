"""Lets the toolbox's own code open ``zoo://NAME``."""

from typing import IO, Any

from fastreid.utils.file_io import PathHandler, PathManager

from nplp.errors import UserError
from nplp.weights.zoo import ZOO_PREFIX, resolve_weights

__all__ = ["ZooPathHandler", "register_zoo"]


class ZooPathHandler(PathHandler):
    """Reads the weights of the zoo's bundles, after their sums were compared."""

    def _get_supported_prefixes(self) -> list[str]:
        return [ZOO_PREFIX]

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return resolve_weights(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if set(mode) & set("wax+"):
            raise UserError(f"{path!r} can be read only, not opened with mode {mode!r}: write to a folder")
        return open(resolve_weights(path), mode, buffering, **kwargs)

    def _exists(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        try:
            resolve_weights(path)
        except UserError:
            return False
        return True

    _isfile = _exists


def register_zoo() -> None:
    """Make the toolbox's ``PathManager`` know ``zoo://``; calling it again changes nothing."""
    if ZOO_PREFIX not in PathManager._PATH_HANDLERS:
        PathManager.register_handler(ZooPathHandler())
