#!/usr/bin/env python
"""Run the paper's tables and figures."""

from nplp_experiments.__main__ import command_line

if __name__ == "__main__":
    command_line()
