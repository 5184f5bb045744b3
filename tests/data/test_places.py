"""An image's augmentation by its place in the batch of all processes."""

import random

import numpy as np
import pytest
import torch

from nplp.data.loaders import TrainSet, build_train_loader
from nplp.data.places import drawn_at
from tiny import make_tiny_cfg

SAME = ("NPLP.SAME_AT_ANY_WORLD_SIZE", True, "MODEL.NORM_CHUNK", 4, "INPUT.AUTOAUG.ENABLED", True)
AUGMENTED = ("INPUT.AUTOAUG.PROB", 0.5, "DATALOADER.NUM_WORKERS", 0)


@pytest.fixture
def train_set(synthetic_root, tmp_path, items):
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", *SAME, *AUGMENTED)
    return TrainSet(cfg, items, np.arange(16) // 4, np.arange(16) % 2)


def batches(monkeypatch, train_set, world_size=1, seed=3):
    """Return the images [2 B, 3, H, W] of two batches, as the processes together read them."""
    shares = []
    for rank in range(world_size):
        monkeypatch.setattr("nplp.data.loaders.comm.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("nplp.data.loaders.comm.get_world_size", lambda: world_size)
        # What a process has drawn before makes no difference.
        torch.manual_seed(rank)
        loader = build_train_loader(train_set, num_batches=2, seed=seed)
        shares.append([batch["images"] for batch in loader])
    return torch.cat([share for step in zip(*shares, strict=True) for share in step])


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_processes_read_the_images_of_one(monkeypatch, train_set, world_size):
    alone = batches(monkeypatch, train_set)
    assert torch.equal(batches(monkeypatch, train_set, world_size), alone)


def test_workers_read_the_same(monkeypatch, train_set):
    alone = batches(monkeypatch, train_set)
    train_set.cfg.defrost()
    train_set.cfg.DATALOADER.NUM_WORKERS = 2
    assert torch.equal(batches(monkeypatch, train_set), alone)


def test_other_steps_and_epochs_augment_otherwise(monkeypatch, train_set):
    """Both batches of 16 hold each of the 16 images."""
    first, second = batches(monkeypatch, train_set).chunk(2)
    third = batches(monkeypatch, train_set, seed=4)[:16]
    images = [{image.numpy().tobytes() for image in batch} for batch in (first, second, third)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len(images[one] & images[other]) < 4


def test_generators_go_on_as_if_nothing_had_been_drawn():
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with drawn_at((1, 2, 3)):
        here = draw()
    assert draw() == expected
    with drawn_at((1, 2, 3)):
        assert draw() == here
    with drawn_at((1, 3, 2)):
        assert not set(draw()) & set(here)
