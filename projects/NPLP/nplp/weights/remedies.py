"""What to set, where weights do not fit the configuration's model."""

from nplp.weights.kinds import Network, Shapes, find_network
from nplp.weights.own_heads import (
    LINEAR,
    NECK_NORM,
    POWER,
    head_names,
    head_options,
    in_our_names,
    own_output,
)

__all__ = ["network_options_to_set", "remedy_for"]


def network_options_to_set(there: Network | None, here: Network | None) -> str:
    """Return which options make the configuration's network the file's."""
    if there is None or not there.options:
        return "set MODEL.BACKBONE.NAME, DEPTH and WITH_IBN to what the file holds, or give another file"
    present = here.options if here else {}
    differing = [
        f"MODEL.BACKBONE.{key} {value}"
        for key, value in there.options.items()
        # A switch that another builder does not have is off.
        if present.get(key, None if value is not False else False) != value
    ]
    return f"set {', '.join(differing)}, or give another file"


def remedy_for(missing: list[str], there: Shapes, here: Shapes) -> str:
    """Return what to do about a file that does not fit.

    Args:
        missing: names that the model needs and the file lacks; none for a backbone.
        there: the file's tensors, by our names but for those of another project's head.
        here: the model's.
    """
    kept = _head_options_to_set(there, here)
    if not missing or not all(key.startswith("heads.") for key in missing):
        return f"set {kept}" if kept else "use the configuration it was trained with"
    keep = f"set {kept}, which keeps its own head, " if kept else ""
    concat = "set MODEL.HEADS.FUSION concat, which needs none, " if missing[0].startswith(LINEAR[:-7]) else ""
    return (
        f"it is a backbone without this model's head: {keep}{concat}{'or ' if keep or concat else ''}train a "
        "model that starts from it, with MODEL.BACKBONE.PRETRAIN True and MODEL.BACKBONE.PRETRAIN_PATH"
    )


def _head_options_to_set(there: Shapes, here: Shapes) -> str:
    """Return which options make the configuration's head the file's; empty where it has none."""
    theirs = in_our_names(there)
    network = find_network(here)
    channels = network.options.get("FEAT_DIM", 0) if network else 0
    if not channels or not any(key.startswith((LINEAR, NECK_NORM, POWER)) for key in theirs):
        return ""
    present = head_options(here, channels)
    options = {
        key: value
        for key, value in head_options(theirs, channels).items()
        if present.get(key, value) != value
    }
    if head_names({key: len(shape) for key, shape in there.items()}):
        options["OUTPUT"] = own_output(there)
    return ", ".join(f"MODEL.HEADS.{key} {value}" for key, value in options.items())
