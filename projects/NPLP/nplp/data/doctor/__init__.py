"""A look at a data set before hours are spent on it: counts, and what is wrong or unusual.

:func:`examine` takes an image table and returns :class:`Findings`; :func:`nplp.data.doctor.reading.read_data`
reads a folder, a table or a registered data set into one.
"""

from nplp.data.doctor.codes import CODES, ERROR, NOTE, WARNING
from nplp.data.doctor.examination import examine
from nplp.data.doctor.findings import Finding, Findings

__all__ = ["CODES", "ERROR", "NOTE", "WARNING", "Finding", "Findings", "examine"]
