"""NPLP: noisy pseudo-label processing for unsupervised domain-adaptive person re-identification.

Where fastreid is installed, importing this package bridges it to the present stack and registers the
model, the head and the data sets. Where it is not, or in another version, the pure parts work alone
(``nplp.clustering``, ``nplp.losses``, ``nplp.layers``), and asking for the rest says what to install.
"""

from typing import Any

from nplp.garbage_collection import collection_paused

__version__ = "0.2.0"

with collection_paused():
    from nplp import host
    from nplp.first_calls import make_first_calls

    make_first_calls()

    if _with_toolbox := not host.toolbox_fault():
        host.apply()

        from nplp.evaluation.host_ranking import bridge_ranking

        bridge_ranking()

        from nplp import methods, modeling
        from nplp.config import add_nplp_config
        from nplp.data import datasets
        from nplp.host.zoo_paths import register_zoo

        register_zoo()

if _with_toolbox:
    __all__ = ["add_nplp_config", "datasets", "host", "methods", "modeling"]
else:

    def __getattr__(name: str) -> Any:
        """Say what is missing when something that needs the toolbox is asked for."""
        if name.startswith("__"):
            raise AttributeError(name)
        host.require_fastreid()
        raise AttributeError(f"module 'nplp' has no attribute {name!r}")
