"""A contact sheet: a row for each identity, a column for each camera."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from nplp_synthetic.images import identity_records
from nplp_synthetic.render import render_image
from nplp_synthetic.spec import DomainSpec

__all__ = ["contact_sheet"]


def contact_sheet(spec: DomainSpec, identities: Sequence[int], images_per_cell: int = 1) -> Image.Image:
    """Render identities side by side as the cameras see them.

    Args:
        spec: The domain.
        identities: Which people, a row each.
        images_per_cell: Images of one person by one camera, side by side in its column.

    Returns:
        An RGB picture; grey where a camera never saw the person.
    """
    height, width = spec.image_size
    gap = 2
    cell = images_per_cell * width + gap
    sheet = Image.new(
        "RGB", (spec.cameras * cell + gap, len(identities) * (height + gap) + gap), (128, 128, 128)
    )
    for row, identity in enumerate(identities):
        shown = [0] * (spec.cameras + 1)
        for record in identity_records(spec, identity):
            if shown[record.camera] < images_per_cell:
                left = gap + (record.camera - 1) * cell + shown[record.camera] * width
                sheet.paste(render_image(spec, record), (left, gap + row * (height + gap)))
                shown[record.camera] += 1
    return sheet
