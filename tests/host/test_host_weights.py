"""ImageNet weights that cannot be had."""

import pytest
import torch
from fastreid.modeling.backbones import osnet, resnet

from nplp.errors import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # Nothing listens on the discard port, so that no test depends on a network.
    monkeypatch.setitem(resnet.model_urls, "18x", "http://127.0.0.1:9/resnet18.pth")
    monkeypatch.setitem(osnet.model_urls, "osnet_x1_0", "http://127.0.0.1:9/uc?id=1")
    return tmp_path / "checkpoints"


def test_without_a_network_the_message_says_everything(cache):
    with pytest.raises(UserError) as caught:
        resnet.init_pretrained_weights("18x")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "'18x'",
        f"{cache / 'resnet18.pth'} is not there",
        "http://127.0.0.1:9/resnet18.pth",
        "MODEL.BACKBONE.PRETRAIN_PATH",
        "MODEL.BACKBONE.PRETRAIN False",
    ):
        assert part in message
    assert caught.value.__cause__ is not None


def test_osnet_names_its_file_after_the_key(cache):
    with pytest.raises(UserError, match=r"osnet_x1_0_imagenet\.pth is not there"):
        osnet.init_pretrained_weights(torch.nn.Identity(), "osnet_x1_0")


def test_a_broken_file_is_named(cache):
    cache.mkdir()
    (cache / "resnet18.pth").write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"resnet18\.pth cannot be read \(delete it\)"):
        resnet.init_pretrained_weights("18x")


def test_a_file_that_would_run_code_is_refused(cache):
    cache.mkdir()
    torch.save({"weight": print}, cache / "resnet18.pth")
    with pytest.raises(UserError, match="cannot be read"):
        resnet.init_pretrained_weights("18x")


def test_weights_in_the_cache_are_returned(cache):
    cache.mkdir()
    torch.save({"weight": torch.ones(2)}, cache / "resnet18.pth")
    assert resnet.init_pretrained_weights("18x")["weight"].tolist() == [1.0, 1.0]


def test_weights_nobody_published_are_named(cache):
    with pytest.raises(UserError, match=r"no ImageNet weights are published for 'se_50x', only for 18x"):
        resnet.init_pretrained_weights(key="se_50x")
