"""The page of a run: what happened in an adaptation, to be looked at."""
