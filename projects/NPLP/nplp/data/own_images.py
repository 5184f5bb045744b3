"""Own images from a folder or a table, whatever their people and cameras are called."""

import os
from collections.abc import Mapping

from nplp.config.own_images import TABLE_SUFFIXES, check_columns, compile_camera_pattern
from nplp.data.image_table import ImageTable
from nplp.data.own_folder import read_image_folder
from nplp.errors import UserError

__all__ = ["read_image_table"]


def read_image_table(
    source: str | os.PathLike[str],
    *,
    camera_pattern: str = "",
    columns: Mapping[str, str] | None = None,
    skip_missing: bool = False,
) -> ImageTable:
    r"""Return the images of a folder or of a table, sorted by their paths.

    No image is opened. docs/own_images.md says how folders and tables are understood.

    Args:
        source: a folder, read by :func:`nplp.data.own_folder.read_image_folder`, or a table, read by
            :func:`nplp.data.own_table.read_table_file`.
        camera_pattern: for a folder: a regular expression, searched in each path relative to the folder, with
            the group ``camera``, as in ``(?P<camera>c\d+)_``.
        columns: for a table: what it calls our columns, as in ``{"camera": "cam_id"}``.
        skip_missing: for a table: leave out and count rows whose files do not exist. By default they are an
            error: figures on what happens to be there are not those of the whole.

    Raises:
        UserError: if there is no such source, no image in it, or anything in it cannot be understood.
    """
    place = os.fspath(source)
    columns = dict(columns or {})
    check_columns(columns)
    if os.path.isdir(place):
        if columns:
            raise UserError(f"{place!r} is a folder, which has no columns: leave the columns out")
        return read_image_folder(place, compile_camera_pattern(camera_pattern) if camera_pattern else None)
    if not os.path.exists(place):
        raise UserError(f"{place!r} does not exist: give a folder of images, or a table of their paths")
    if os.path.splitext(place)[1].lower() not in TABLE_SUFFIXES:
        raise UserError(
            f"{place!r} is neither a folder of images nor a table ({', '.join(TABLE_SUFFIXES)}); a tracker's "
            "text file becomes a table by nplp crops"
        )
    if camera_pattern:
        raise UserError(
            f"{place!r} is a table, whose cameras are in a column: leave the camera pattern out, or give the "
            "folder"
        )
    # Polars, which reads tables, is imported where there is one.
    from nplp.data.own_table import read_table_file

    return read_table_file(place, columns, skip_missing=skip_missing)
