#!/usr/bin/env python
"""Train, resume or evaluate an NPLP model, or any stock model of the toolbox."""

from nplp_commands.train import command_line

if __name__ == "__main__":
    command_line()
