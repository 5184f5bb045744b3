"""Models whose batch norms divide a batch."""

import pytest
import torch

from nplp.errors import UserError
from nplp.layers import GroupedBatchNorm1d, GroupedBatchNorm2d
from nplp.modeling import NPLP, PAPHead
from nplp.modeling.norms import check_chunks


def build(make_cfg, **options):
    torch.manual_seed(0)
    return NPLP(make_cfg(**options))


def test_backbone_and_neck_are_divided_and_keep_their_names(make_cfg):
    plain, divided = build(make_cfg), build(make_cfg, MODEL__NORM_CHUNK=8)
    norms = [module for module in divided.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(module, GroupedBatchNorm2d) for module in norms)
    assert isinstance(divided.heads.neck[0], GroupedBatchNorm1d)
    ours, theirs = divided.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert list(divided.named_parameters()) != []
    assert [name for name, _ in divided.named_parameters()] == [name for name, _ in plain.named_parameters()]


def test_without_a_chunk_norms_are_the_backbones_own(make_cfg):
    assert not any(isinstance(module, GroupedBatchNorm2d) for module in build(make_cfg).modules())


def test_a_chunk_changes_training_and_not_evaluation(make_cfg):
    plain, divided = build(make_cfg), build(make_cfg, MODEL__NORM_CHUNK=4)
    images = torch.rand(8, 3, 64, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        ours, theirs = (model.eval()({"images": images}) for model in (divided, plain))
        assert torch.equal(ours, theirs)
        one, other = (model.train().backbone(images) for model in (divided, plain))
    assert not torch.allclose(one, other)


def test_synchronised_norms_cannot_be_divided(make_cfg):
    with pytest.raises(UserError, match=r"MODEL\.NORM_CHUNK 8: .* synchronised .* set MODEL\.BACKBONE\.NORM"):
        build(make_cfg, MODEL__NORM_CHUNK=8, MODEL__BACKBONE__NORM="syncBN")


def test_a_model_without_batch_norms_cannot_be_divided():
    with pytest.raises(UserError, match=r"MODEL\.NORM_CHUNK must be 0 .* without batch norms, got 8"):
        NPLP(
            backbone=torch.nn.Conv2d(3, 4, 2),
            heads=PAPHead(feat_dim=4, embedding_dim=4),
            loss_names=(),
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
            norm_chunk=8,
        )


@pytest.mark.parametrize(("processes", "fits"), [(1, True), (2, True), (4, True), (8, False)])
def test_the_share_of_a_process_must_be_divisible(make_cfg, processes, fits):
    cfg = make_cfg(MODEL__NORM_CHUNK=16)
    if fits:
        check_chunks(cfg, processes)
        return
    with pytest.raises(UserError, match=r"must divide the 8 images that each of 8 process\(es\) .*, got 16"):
        check_chunks(cfg, processes)
