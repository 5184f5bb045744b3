"""Where extracted features are kept."""

import torch

from nplp.data import extraction

META = torch.device("meta")


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
