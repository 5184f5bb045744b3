"""Builds the toolbox's Cython rankings; run as a script, in a folder with the ``.pyx`` files.

It is copied to that folder and run there by the interpreter that will import the result, so it must not
import this package. It fails unless what it built ranks a toy correctly.
"""

import importlib
import sys

import numpy as np

MODULES = ("rank_cy", "roc_cy")


def build() -> None:
    """Compile ``rank_cy.pyx`` and ``roc_cy.pyx`` of the current folder in place.

    Raises:
        ImportError: without setuptools or Cython.
        SystemExit: by setuptools, if there is no compiler or it fails.
    """
    # By name: neither is needed to import this module, which only names what is to be built.
    cythonize = importlib.import_module("Cython.Build").cythonize
    setuptools = importlib.import_module("setuptools")
    include = [np.get_include()]
    extensions = [setuptools.Extension(name, [f"{name}.pyx"], include_dirs=include) for name in MODULES]
    setuptools.setup(
        name="ranking",
        ext_modules=cythonize(extensions, language_level=3),
        script_args=["build_ext", "--inplace"],
    )


def check() -> None:
    """Rank a toy with the built modules: the second of two gallery images is the match.

    Raises:
        RuntimeError: if a built module gives another ranking.
    """
    sys.path.insert(0, ".")
    rank_cy, roc_cy = (importlib.import_module(name) for name in MODULES)
    distances = np.array([[0.0, 1.0]], dtype=np.float32)
    labels = [np.array(values, dtype=np.int64) for values in ([1], [2, 1], [0], [1, 1])]
    cmc, all_ap, all_inp = rank_cy.evaluate_cy(distances, *labels, 2)
    scores, targets = roc_cy.evaluate_roc_cy(distances, *labels)
    expected = [[0, 1], [0.5], [0.5], [1, 0], [0, 1]]
    results = [list(values) for values in (cmc, all_ap, all_inp, scores, targets)]
    if results != expected:
        raise RuntimeError(f"the built rankings gave {results} where {expected} is right")


if __name__ == "__main__":
    build()
    check()
