"""Weights that others wrote: what a file is, which network it holds, and how its names become ours."""
