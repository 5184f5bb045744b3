"""Several processes of one run: starting and ending them, and what they exchange."""
