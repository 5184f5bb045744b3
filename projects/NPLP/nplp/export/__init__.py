"""Trained models as bundles of a model zoo, and as programs that run without the toolbox."""
