"""Values of keys that are names of parts which other packages hold."""

__all__ = ["ACROSS_CAMERAS", "IDENTITIES", "SAMPLERS", "SHUFFLED"]

SHUFFLED = "TrainingSampler"
IDENTITIES = "NaiveIdentitySampler"
ACROSS_CAMERAS = "BalancedIdentitySampler"
SAMPLERS = (SHUFFLED, IDENTITIES, ACROSS_CAMERAS)
"""Values of ``DATALOADER.SAMPLER_TRAIN``: the toolbox's names for the classes of ``nplp.data.samplers``."""
