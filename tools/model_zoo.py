#!/usr/bin/env python
"""List, describe and verify the bundles of a model zoo."""

from nplp_commands.zoo import command_line

if __name__ == "__main__":
    command_line()
