"""Batches with each image transformed once, or twice."""

import numpy as np
import torch

from nplp.data.loaders import TrainSet, build_train_loader
from tiny import make_tiny_cfg


def first_batch(cfg, items, two_views):
    train_set = TrainSet(cfg, items, np.arange(16) // 4, np.arange(16) % 2, two_views=two_views)
    return next(iter(build_train_loader(train_set, num_batches=1, seed=3)))


def test_a_second_view_is_another_augmentation_of_the_same_images(synthetic_root, tmp_path, items):
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", "DATALOADER.NUM_WORKERS", 0)
    batch = first_batch(cfg, items, two_views=True)
    assert batch["images"].shape == batch["second_images"].shape
    same = (batch["images"] == batch["second_images"]).flatten(1).all(1)
    assert not same.all()
    assert torch.equal(batch["indices"], first_batch(cfg, items, two_views=False)["indices"])


def test_without_augmentation_both_views_are_the_image(synthetic_root, tmp_path, items):
    off = [word for name in ("FLIP", "PADDING", "REA") for word in (f"INPUT.{name}.ENABLED", False)]
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", *off, "DATALOADER.NUM_WORKERS", 0)
    batch = first_batch(cfg, items, two_views=True)
    assert torch.equal(batch["images"], batch["second_images"])
    assert "second_images" not in first_batch(cfg, items, two_views=False)
