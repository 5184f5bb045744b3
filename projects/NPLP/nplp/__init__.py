"""NPLP: noisy pseudo-label processing for unsupervised domain-adaptive person re-identification."""

__version__ = "0.1.0"
