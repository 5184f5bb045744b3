"""Where extracted features are kept, and that several processes lose and double none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from extraction_process import COUNTS, extracted
from nplp.data import extraction
from ranks import run_ranks

META = torch.device("meta")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What one process extracts, and what each of two does: for the main process, and for all."""
    folder = tmp_path_factory.mktemp("extraction")
    pixels = np.random.default_rng(0).integers(0, 256, size=(max(COUNTS), 24, 12, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    alone = extracted(folder, everywhere=False)
    return alone, run_ranks(Path(__file__).parents[1] / "extraction_process.py", folder)


@pytest.mark.parametrize("count", COUNTS)
def test_no_feature_is_lost_or_doubled_when_the_images_do_not_divide(shared, count):
    alone, ((main, first), (other, second)) = shared
    assert len(alone[count]) == count
    assert len(torch.unique(alone[count], dim=0)) == count
    for everywhere in (main, first, second):
        torch.testing.assert_close(everywhere[count], alone[count], rtol=1e-6, atol=1e-6)
    assert torch.equal(first[count], second[count])
    assert len(other[count]) == 0


def test_rows_stay_on_the_device():
    rows = extraction._Rows(5, META)
    for count in (3, 2):
        rows.append(torch.ones(count, 4, device=META))
    assert rows.features().device == META
    assert rows.features().shape == (5, 4)


def test_rows_go_to_the_cpu_where_the_device_is_full(monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("out of memory")

    rows = extraction._Rows(5, META)
    monkeypatch.setattr(extraction.torch, "empty", full)
    for first in (0, 3):
        rows.append(torch.arange(first, min(first + 3, 5)).float().view(-1, 1))
    assert rows.features().flatten().tolist() == [0, 1, 2, 3, 4]
