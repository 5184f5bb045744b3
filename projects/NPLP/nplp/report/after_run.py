"""The pages of a run that has just ended."""

import logging
from pathlib import Path

__all__ = ["write_pages"]

logger = logging.getLogger(__name__)


def write_pages(folder: Path) -> None:
    """Write the page and TensorBoard's projection of the run in ``folder``.

    A page that cannot be drawn must not cost a trained model: a warning says why, and how to try again.
    """
    try:
        # Drawing takes a second to import, and only runs that end well need it.
        from nplp.report.page import write_report
        from nplp.report.projection import write_projection

        logger.info("Page: %s", write_report(folder))
        write_projection(folder)
    except Exception as error:  # noqa: BLE001  whatever it is, the run is finished and saved
        logger.warning("The page could not be written (%s): tools/report.py %s tries again", error, folder)
