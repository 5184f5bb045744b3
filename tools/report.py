#!/usr/bin/env python
"""Write the page of an adaptation."""

from nplp_commands.report import command_line

if __name__ == "__main__":
    command_line()
