"""Decoded crops that are kept: the same pixels, within the budgets, by all workers, and nothing is left."""

import os

import numpy as np
import pytest
import torch
from fastreid.data.transforms import build_transforms
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Resize

from nplp.data import decoded
from nplp.data.decoded import HEADER, DecodedCrops, crops_kept, crops_of, fixed_part
from nplp.data.images import UnreadableImageError
from nplp.data.loaders import ImageSet, build_test_loader
from nplp.errors import UserError

SIZE = Resize((8, 4), interpolation=3)
ROOM = HEADER.size + 3 * 8 * 4


@pytest.fixture
def paths(tmp_path):
    """Six images of different sizes."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(6):
        found.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(rng.integers(0, 256, (20 + number, 9, 3), dtype=np.uint8)).save(found[-1])
    return found


@pytest.fixture
def decodings(monkeypatch):
    """The files that were decoded, in order."""
    seen = []
    own = decoded.read_rgb
    monkeypatch.setattr(decoded, "read_rgb", lambda path: (seen.append(path), own(path))[1])
    return seen


def fresh(path, resize=SIZE):
    return np.asarray(decoded.Crops(resize).read(0, path))


@pytest.mark.parametrize("resize", [SIZE, None], ids=["one size", "own sizes"])
@pytest.mark.parametrize(("memory", "disk"), [(1 << 20, 0), (0, 1 << 20)], ids=["memory", "file"])
def test_each_file_is_decoded_once_and_its_pixels_are_the_same(
    paths, decodings, tmp_path, resize, memory, disk
):
    expected = [fresh(path, resize) for path in paths]
    decodings.clear()
    store = DecodedCrops(memory, disk, str(tmp_path))
    before = set(os.listdir(tmp_path))
    for _ in range(3):
        crops = store.crops(paths, resize)
        for number, path in enumerate(paths):
            np.testing.assert_array_equal(crops.read(number, path), expected[number])
    assert decodings == paths
    assert set(os.listdir(tmp_path)) == before
    store.close()


def test_the_file_takes_what_the_memory_has_no_room_for_and_the_rest_is_decoded(paths, decodings, tmp_path):
    store = DecodedCrops(2 * ROOM + 1, 3 * ROOM, str(tmp_path))
    crops = store.crops(paths, SIZE)
    for _ in range(3):
        for number, path in enumerate(paths):
            crops.read(number, path)
    assert decodings == [*paths, paths[-1], paths[-1]]
    store.close()


def test_a_file_that_changed_is_decoded_again_and_one_that_vanished_is_named(paths, decodings, tmp_path):
    store = DecodedCrops(1 << 20, 0, str(tmp_path))
    crops = store.crops(paths, SIZE)
    before = crops.read(0, paths[0]).copy()
    Image.new("RGB", (9, 20), (1, 2, 3)).save(paths[0])
    changed = crops.read(0, paths[0])
    assert not np.array_equal(changed, before)
    np.testing.assert_array_equal(changed, fresh(paths[0]))
    decodings.clear()
    np.testing.assert_array_equal(crops.read(0, paths[0]), changed)
    assert decodings == []
    os.remove(paths[0])
    with pytest.raises(UnreadableImageError, match="No such file"):
        crops.read(0, paths[0])
    store.close()


@pytest.mark.parametrize("where", [3, HEADER.size + 5], ids=["header", "pixels"])
def test_a_crop_that_was_written_in_part_is_not_taken(paths, decodings, tmp_path, where):
    store = DecodedCrops(1 << 20, 0, str(tmp_path))
    crops = store.crops(paths, SIZE)
    expected = crops.read(0, paths[0]).copy()
    os.pwrite(store._files[0], b"\x55\x55", where)
    np.testing.assert_array_equal(crops.read(0, paths[0]), expected)
    assert decodings == [paths[0]] * 2
    store.close()


def test_where_nothing_can_be_written_everything_is_decoded(paths, decodings, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    store = DecodedCrops(1 << 20, 0, str(tmp_path))
    for _ in range(2):
        np.testing.assert_array_equal(store.crops(paths, SIZE).read(0, paths[0]), fresh(paths[0]))
    store.close()
    missing = DecodedCrops(0, 1 << 20, str(tmp_path / "missing"))
    np.testing.assert_array_equal(missing.crops(paths, SIZE).read(0, paths[0]), fresh(paths[0]))


def test_the_processes_of_a_machine_divide_the_budgets_and_a_quarter_of_what_is_free(tiny_cfg, monkeypatch):
    monkeypatch.setattr(decoded.comm, "get_local_size", lambda: 4)
    with crops_kept(tiny_cfg):
        assert decoded._kept.get()._budgets[1] == 2048 << 20
    monkeypatch.setattr(decoded, "available_memory", lambda: 1600)
    with crops_kept(tiny_cfg):
        assert decoded._kept.get()._budgets[0] == 100
    assert crops_of(["a"], None)._places is None


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_share_what_one_of_them_has_kept(paths, tmp_path, tiny_cfg, start):
    transform = build_transforms(tiny_cfg, is_train=False)
    items = [(path, 0, 0) for path in paths]
    expected = torch.stack([ImageSet(items, transform)[number]["images"] for number in range(6)])
    with crops_kept(tiny_cfg):
        images = ImageSet(items, transform)
        loader = DataLoader(images, batch_size=6, num_workers=1, multiprocessing_context=start)
        assert torch.equal(next(iter(loader))["images"], expected)
        # This process has decoded none: what it finds is the worker's.
        number, place, room = images.crops._places[2].tolist()
        found = os.stat(paths[2])
        kept = decoded._read(images.crops._files[number], place, room, (found.st_mtime_ns, found.st_size))
        np.testing.assert_array_equal(kept, fresh(paths[2], fixed_part(transform)[0]))


def test_an_unreadable_file_is_named_as_without(paths, tiny_cfg):
    with open(paths[3], "wb") as file:
        file.write(b"no image")
    items = [(path, 0, 0) for path in paths]
    with crops_kept(tiny_cfg), pytest.raises(UserError, match=r"3\.png.*cannot be read any more"):
        list(build_test_loader(tiny_cfg, items))


def test_after_the_end_crops_are_decoded_and_nothing_is_written(paths, decodings, tmp_path):
    store = DecodedCrops(1 << 20, 0, str(tmp_path))
    crops = store.crops(paths, SIZE)
    crops.read(0, paths[0])
    taken = store._files[0]
    store.close()
    with open(tmp_path / "another", "w+b") as another:
        # The number of the descriptor is given again.
        assert another.fileno() == taken or os.dup2(another.fileno(), taken) == taken
        for _ in range(2):
            np.testing.assert_array_equal(crops.read(0, paths[0]), fresh(paths[0]))
        assert os.path.getsize(another.name) == 0
        if another.fileno() != taken:
            os.close(taken)


def test_only_a_leading_resize_to_one_size_is_kept():
    assert fixed_part(Compose([Resize(8)]))[0] is None
    assert fixed_part(Compose([]))[0] is None
    resize, rest = fixed_part(Compose([SIZE, Resize(3)]))
    assert resize is SIZE
    assert [part.size for part in rest.transforms] == [3]
