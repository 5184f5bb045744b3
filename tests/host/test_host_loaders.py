"""The data loader on the CPU (and, where there is one, on a GPU)."""

import time
from collections.abc import Iterator

import pytest
import torch
from fastreid.config import get_cfg
from fastreid.data import build, data_utils
from fastreid.data.build import build_reid_test_loader, build_reid_train_loader, fast_batch_collator
from fastreid.data.common import CommDataset
from fastreid.data.samplers import TrainingSampler
from fastreid.data.transforms import build_transforms
from PIL import Image
from torch.utils.data import Dataset

from nplp.host.loaders import DataLoaderX


class Numbers(Dataset):
    """Ten numbers as batches want them; reading ``broken`` fails."""

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict:
        if index == self.broken:
            raise OSError(f"cannot read image {index}")
        nested = {"square": torch.tensor(index * index)}
        return {"images": torch.full((2,), float(index)), "img_paths": f"{index}.jpg", "nested": nested}


def make_loader(**kwargs) -> DataLoaderX:
    defaults = {"dataset": Numbers(), "batch_size": 4, "collate_fn": fast_batch_collator, "pin_memory": True}
    return DataLoaderX(0, **{**defaults, **kwargs})


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("images")
    records = []
    for number in range(6):
        path = folder / f"{number}.png"
        Image.new("RGB", (16, 32), (number, 0, 255)).save(path)
        records.append((str(path), number // 2, number % 2))
    return records


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_in_order_and_again(workers):
    loader = make_loader(device="cpu", num_workers=workers)
    for _ in range(2):
        batches = list(loader)
        assert [len(batch["images"]) for batch in batches] == [4, 4, 2]
        assert torch.cat([batch["images"] for batch in batches])[:, 0].tolist() == list(range(10))
        assert batches[2]["img_paths"] == ["8.jpg", "9.jpg"]
    assert len(loader) == 3


def test_nothing_is_pinned_on_the_cpu():
    loader = make_loader(device="cpu")
    assert loader.pin_memory is False
    assert not next(iter(loader))["images"].is_pinned()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_reaches_the_caller(workers):
    batches = iter(make_loader(device="cpu", dataset=Numbers(broken=5), num_workers=workers))
    assert next(batches)["images"][:, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(OSError, match="cannot read image 5"):
        next(batches)


def test_an_abandoned_pass_ends_its_workers():
    batches = iter(make_loader(device="cpu", num_workers=1, batch_size=1))
    next(batches)
    workers = list(batches._workers)
    assert all(worker.is_alive() for worker in workers)
    del batches
    until = time.monotonic() + 20
    while any(worker.is_alive() for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(worker.is_alive() for worker in workers)


def test_the_toolbox_test_loader_runs_here(items):
    cfg = get_cfg()
    cfg.INPUT.SIZE_TEST = [8, 4]
    test_set = CommDataset(items, build_transforms(cfg, is_train=False), relabel=False)
    loader, num_query = build_reid_test_loader(test_set, test_batch_size=4, num_query=2, num_workers=1)
    assert isinstance(loader, DataLoaderX)
    assert num_query == 2
    batches = list(loader)
    assert torch.cat([batch["targets"] for batch in batches]).tolist() == [0, 0, 1, 1, 2, 2]
    assert batches[0]["images"].shape == (4, 3, 8, 4)
    assert batches[0]["images"][1, :, 0, 0].tolist() == [1.0, 0.0, 255.0]


def test_the_toolbox_train_loader_runs_here(items):
    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN = [8, 4]
    train_set = CommDataset(items, build_transforms(cfg, is_train=True), relabel=True)
    sampler = TrainingSampler(len(train_set), seed=0)
    loader = build_reid_train_loader(train_set, sampler=sampler, total_batch_size=4, num_workers=0)
    batches: Iterator[dict] = iter(loader)
    seen = {path for _ in range(3) for path in next(batches)["img_paths"]}
    assert seen == {item[0] for item in items}


def test_the_bridge_is_in_place():
    assert data_utils.DataLoaderX is build.DataLoaderX is DataLoaderX


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_arrive_on_the_gpu(workers):
    for _ in range(2):
        batches = list(make_loader(num_workers=workers))
        assert all(batch["images"].is_cuda and batch["nested"]["square"].is_cuda for batch in batches)
        assert torch.cat([batch["nested"]["square"] for batch in batches]).tolist() == [
            n * n for n in range(10)
        ]
    with pytest.raises(OSError, match="cannot read image 5"):
        list(make_loader(dataset=Numbers(broken=5), num_workers=workers))
