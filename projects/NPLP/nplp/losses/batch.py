"""What every loss checks and converts before it computes. Shapes: B images in the batch, D values each."""

import torch

__all__ = ["at_least_float32", "check_batch", "check_label_range", "check_weights", "weighted_mean"]


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` in float32, or unchanged if it is float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def check_batch(features: torch.Tensor, labels: torch.Tensor) -> None:
    """Check the shapes and the kind of a batch.

    Args:
        features: [B, D], floating point, B >= 1.
        labels: [B], integers, on the same device.

    Raises:
        ValueError: naming the argument that does not fit and what it is.
    """
    if features.dim() != 2 or len(features) == 0 or not features.is_floating_point():
        raise ValueError(
            f"features must be floating point [B, D] with B >= 1, got {features.dtype} of shape "
            f"{tuple(features.shape)}"
        )
    if labels.shape != features.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be {len(features)} integers, one for each row of features, got {labels.dtype} "
            f"of shape {tuple(labels.shape)}"
        )


def check_label_range(labels: torch.Tensor, count: int) -> None:
    """Check that every label is in [0, ``count``); waits for the device.

    Raises:
        ValueError: naming the range and the first extreme outside of it.
    """
    lowest, highest = (int(extreme) for extreme in torch.stack(labels.aminmax()).tolist())
    if lowest < 0 or highest >= count:
        raise ValueError(f"labels must be in [0, {count}), got {lowest if lowest < 0 else highest}")


def check_weights(weights: torch.Tensor | None, count: int) -> None:
    """Check the weights of a batch's images, where there are any.

    Raises:
        ValueError: if they are not ``count`` floating point numbers.
    """
    if weights is not None and (weights.shape != (count,) or not weights.is_floating_point()):
        raise ValueError(
            f"weights must be {count} floating point numbers, one for each image, got {weights.dtype} of "
            f"shape {tuple(weights.shape)}"
        )


def weighted_mean(own: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of each image's own loss [B], times its weight [B] where there are any."""
    return own.mean() if weights is None else (weights.to(own) * own).mean()
