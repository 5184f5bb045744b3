"""Training: the trainer, the pseudo-label hook and the whole of Algorithm 1."""
