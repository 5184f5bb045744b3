#!/usr/bin/env python
"""Render the built-in synthetic person re-ID domains."""

from nplp_commands.synthetic import command_line

if __name__ == "__main__":
    command_line()
