"""What a trained model is used for: embedding images, searching among them, grouping them into people."""

from pathlib import Path

from nplp.search.embedder import Embedder
from nplp.search.grouping import group
from nplp.search.index import Hits, Index

__all__ = ["Embedder", "Hits", "Index", "group", "load_model"]


def load_model(source: str | Path, device: str = "") -> Embedder:
    """Return a model that embeds image files; see :func:`nplp.search.models.load_model`."""
    # Here, as the parts that build models take long to import.
    from nplp.search.models import load_model as load

    return load(source, device)
