#!/usr/bin/env python
"""Write a trained model as a bundle of the model zoo."""

from nplp_commands.export import command_line

if __name__ == "__main__":
    command_line()
