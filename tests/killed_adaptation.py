"""An adaptation in a process of its own, which may be killed when it calls a function for the n-th time."""

import runpy
from pathlib import Path

from nplp.adapt.request import Request
from nplp.adapt.run import Products, adapt, resume

PRODUCTS = Products(onnx=False)


def go(request: Request, resumed: bool, kill: tuple[str, int, str] | None) -> None:
    """Adapt, or go on; ``kill`` is a function's address, the number of its call, and before or after it."""
    if kill is not None:
        runpy.run_path(str(Path(__file__).parent / "engine" / "killed_at.py"))["arm"](*kill)
    if resumed:
        resume(request.output, [], PRODUCTS)
    else:
        adapt(request, PRODUCTS)
