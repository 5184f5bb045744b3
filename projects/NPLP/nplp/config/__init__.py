"""The configuration: its keys, their values, what is not followed, and that of a bundle from elsewhere."""

from nplp.config.keys import add_nplp_config, default_config, source_config, value_of

__all__ = ["add_nplp_config", "default_config", "source_config", "value_of"]
