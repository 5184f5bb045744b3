"""Training: the trainer, the pseudo-label hook and the whole of Algorithm 1. It needs the toolbox."""

from nplp.host import require_fastreid

require_fastreid()
