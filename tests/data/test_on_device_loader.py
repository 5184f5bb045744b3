"""Batches that are augmented on the device: what workers read, and what their augmentation depends on."""

import numpy as np
import pytest
import torch
from PIL import Image

from nplp.data.loaders import TrainSet, build_test_loader, build_train_loader
from on_devices import on_devices
from tiny import make_tiny_cfg


@pytest.fixture
def build(synthetic_root, tmp_path, items):
    """Return a function that makes the training set of 16 images, with further settings."""

    def train_set(*pairs, two_views=False, images=items):
        given = ("INPUT.ON_DEVICE", True, "DATALOADER.NUM_WORKERS", 0, *pairs)
        cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", *given)
        labels = np.arange(16) // 4
        return TrainSet(cfg, images, labels, np.arange(16) % 2, two_views=two_views)

    return train_set


def batches(train_set, seed=3, number=2):
    return list(build_train_loader(train_set, num_batches=number, seed=seed))


def images_of(train_set, seed=3):
    """Return the images [2 B, 3, H, W] of two batches."""
    return torch.cat([batch["images"] for batch in batches(train_set, seed)])


def test_workers_read_bytes_and_batches_arrive_as_images(build):
    train_set = build()
    read = next(iter(build_train_loader(train_set, num_batches=1, seed=3).loader))
    assert (read["images"].dtype, tuple(read["images"].shape)) == (torch.uint8, (16, 32, 16, 3))
    (batch,) = batches(train_set, number=1)
    assert (batch["images"].dtype, tuple(batch["images"].shape)) == (torch.float32, (16, 3, 32, 16))
    others = {key for key in read if key != "images"}
    assert all(torch.equal(torch.as_tensor(read[key]), batch[key]) for key in others - {"img_paths"})
    assert others == batch.keys() - {"images"}


def test_the_images_are_those_that_are_read_without(build):
    """All augmentation off, each way gives the resized image."""
    off = [word for name in ("FLIP", "PADDING", "REA") for word in (f"INPUT.{name}.ENABLED", False)]
    here, there = (images_of(build(*off, "INPUT.ON_DEVICE", on)) for on in (True, False))
    assert torch.equal(here, there)
    assert not torch.equal(here, images_of(build()))


def test_what_is_drawn_depends_on_no_worker_and_on_nothing_drawn_before(build):
    alone = images_of(build())
    torch.manual_seed(99)
    assert torch.equal(images_of(build("DATALOADER.NUM_WORKERS", 2)), alone)
    assert torch.equal(images_of(build("DATALOADER.NUM_WORKERS", 1, "DATALOADER.PREFETCH_FACTOR", 1)), alone)


def test_nothing_is_taken_from_the_generators_of_the_process(build):
    before = torch.get_rng_state()
    loader = iter(build_train_loader(build(), num_batches=2, seed=3))
    next(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_batches_epochs_and_places_augment_otherwise(build, items):
    """All images are one."""
    train_set = build(images=items[:1] * 16)
    first, second = images_of(train_set).chunk(2)
    third = images_of(train_set, seed=4)[:16]
    images = [{image.numpy().tobytes() for image in batch} for batch in (first, second, third)]
    assert min(map(len, images)) > 12
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len(images[one] & images[other]) < 4


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("two_views", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_several_processes_see_the_images_of_one(monkeypatch, build, world_size, two_views, same):
    options = ("NPLP.SAME_AT_ANY_WORLD_SIZE", same, "MODEL.NORM_CHUNK", 4)
    train_set = build(*options, two_views=two_views)
    alone = batches(train_set)
    shares = []
    for rank in range(world_size):
        monkeypatch.setattr("nplp.data.loaders.comm.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("nplp.data.loaders.comm.get_world_size", lambda: world_size)
        shares.append(batches(train_set))
    for view in ("images", "second_images")[: 1 + two_views]:
        for expected, parts in zip(alone, zip(*shares, strict=True), strict=True):
            assert torch.equal(torch.cat([part[view] for part in parts]), expected[view])


def test_a_second_view_is_another_augmentation_of_the_same_pixels(build):
    train_set = build(two_views=True)
    read = next(iter(build_train_loader(train_set, num_batches=1, seed=3).loader))
    assert "second_images" not in read
    (batch,) = batches(train_set, number=1)
    assert batch["images"].shape == batch["second_images"].shape
    same = (batch["images"] == batch["second_images"]).flatten(1).all(1)
    assert same.sum() < 4
    once = batches(build(), number=1)[0]
    assert torch.equal(batch["images"], once["images"])
    assert "second_images" not in once
    off = [word for name in ("FLIP", "PADDING", "REA") for word in (f"INPUT.{name}.ENABLED", False)]
    (plain,) = batches(build(*off, two_views=True), number=1)
    assert torch.equal(plain["images"], plain["second_images"])


def test_images_of_any_size_make_a_batch(build, items, tmp_path):
    for number, item in enumerate(items):
        Image.new("RGB", (20 + number, 90 - number), (number, 0, 0)).save(item[0])
    assert tuple(images_of(build(images=items)).shape) == (32, 3, 32, 16)


def test_evaluation_reads_as_before(build, items):
    cfg = build().cfg
    (batch,) = build_test_loader(cfg, items)
    assert batch["images"].dtype == torch.float32


@pytest.mark.parametrize("on", [True, False])
def test_workers_read_as_many_batches_ahead_as_are_asked_for(build, items, on):
    train_set = build(*("INPUT.ON_DEVICE", on, "DATALOADER.NUM_WORKERS", 1, "DATALOADER.PREFETCH_FACTOR", 5))
    loaders = build_train_loader(train_set, num_batches=1, seed=3), build_test_loader(train_set.cfg, items)
    assert [loader.loader.prefetch_factor for loader in loaders] == [5, 5]


@on_devices
def test_every_device_gives_the_same_images_and_keeps_them(build, device):
    expected, found = batches(build(), number=3), batches(build("MODEL.DEVICE", device), number=3)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["images"].device.type == ours["targets"].device.type == device
        assert torch.equal(ours["images"].cpu(), theirs["images"])


class Noted:
    """Copies that only note when each batch's was begun and asked for."""

    def __init__(self):
        self.noted = []

    def begin(self, batch):
        self.noted.append(("begin", batch["indices"][0].item()))
        return batch

    def finish(self, begun):
        self.noted.append(("finish", begun["indices"][0].item()))
        return begun


def test_a_batch_is_augmented_after_its_copy_which_is_begun_one_ahead(build):
    built, copies = build_train_loader(build(), num_batches=3, seed=3), Noted()
    expected = list(built)
    built._copies = copies
    for number, batch in enumerate(built):
        # The next one's copy is under way when a batch is handed over.
        begun = [what for what, _ in copies.noted].count("begin")
        assert begun == min(number + 2, 3)
        assert copies.noted[-1] == ("finish", batch["indices"][0].item())
        assert torch.equal(batch["images"], expected[number]["images"])
    assert [what for what, _ in copies.noted].count("finish") == 3
