"""Data sets, loaders and ordered feature extraction.

``nplp_synthetic``, the generator of the built-in domains, works without the toolbox; everything
else here needs it.
"""
