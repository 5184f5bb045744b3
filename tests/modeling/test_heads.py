"""The registered head: pooling, hyper-network, neck and classifier."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fastreid.modeling.heads import build_heads

from nplp.errors import UserError
from nplp.layers import PyramidalAveragePooling
from nplp.modeling import HeadOutput, PAPHead

CE, TRIPLET, CC = "CrossEntropyLoss", "TripletLoss", "CenterContrastiveLoss"


def build(**options: Any) -> PAPHead:
    arguments = {
        "feat_dim": 3,
        "granularities": 2,
        "embedding_dim": 4,
        "num_classes": 5,
        "loss_names": (CE, TRIPLET),
    }
    return PAPHead(**{**arguments, **options})


def test_training_output_follows_the_paper() -> None:
    """f_c = PAP, f_e = HN(f_c), f_r = ReLU(BN(f_e)) with the batch's statistics, logits = W^T f_r."""
    head, feature_map = build(), torch.randn(6, 3, 4, 2)
    output = head(feature_map)
    f_c = PyramidalAveragePooling(2)(feature_map)
    f_e = F.linear(f_c, head.hyper_network.fc.weight, head.hyper_network.fc.bias)
    f_r = ((f_e - f_e.mean(0)) / (f_e.var(0, unbiased=False) + 1e-5).sqrt()).clamp(min=0)
    assert isinstance(output, HeadOutput)
    torch.testing.assert_close(output.f_e, f_e)
    torch.testing.assert_close(output.f_r, f_r, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.logits, output.f_r @ head.classifier.weight.T)


def test_evaluation_gives_the_embedding() -> None:
    head, feature_map = build().eval(), torch.randn(2, 3, 4, 2)
    assert torch.equal(head(feature_map), head.embed(feature_map))
    assert head(feature_map).shape == (2, 4)


@pytest.mark.parametrize("granularities", [1, 2, 3, 4])
def test_concat_is_the_pooled_feature(granularities: int) -> None:
    head = build(fusion="concat", granularities=granularities, embedding_dim=0).eval()
    feature_map = torch.randn(2, 3, 4, 2)
    assert head.embedding_dim == 3 * granularities * (granularities + 1) // 2
    assert torch.equal(head(feature_map), PyramidalAveragePooling(granularities)(feature_map))
    output = head.train()(feature_map)
    assert output.f_r.shape == output.f_e.shape == (2, head.embedding_dim)


@pytest.mark.parametrize("pooling", ["average", "gem"])
@pytest.mark.parametrize("output", ["f_e", "f_bn", "f_r"])
def test_evaluation_gives_the_feature_that_is_asked_for(output: str, pooling: str) -> None:
    head, feature_map = build(output=output, pooling=pooling, loss_names=()).eval(), torch.randn(2, 3, 4, 2)
    assert (head.neck is None) == (output == "f_e")
    feature = head.embed(feature_map)
    if head.neck is not None:
        head.neck[0].running_mean.fill_(0.3)
        feature = (feature - 0.3) / (1 + 1e-5) ** 0.5
    expected = feature.clamp(min=0) if output == "f_r" else feature
    torch.testing.assert_close(head(feature_map), expected)
    assert ("pooling.p" in head.state_dict()) == (pooling == "gem")


@pytest.mark.parametrize(
    ("num_classes", "losses", "has_classifier", "trains_neck"),
    [
        (5, (CE, TRIPLET), True, True),
        (0, (CE, TRIPLET), False, False),
        (5, (TRIPLET,), False, False),
        (5, (TRIPLET, CC), False, True),
        (0, (CC,), False, True),
        (5, (CE, CC), True, True),
    ],
)
def test_what_exists_and_trains(
    num_classes: int, losses: tuple[str, ...], has_classifier: bool, trains_neck: bool
) -> None:
    head = build(num_classes=num_classes, loss_names=losses)
    output = head(torch.randn(3, 3, 4, 2))
    assert (head.classifier is not None) == (output.logits is not None) == has_classifier
    assert (output.f_r is not None) == trains_neck
    assert all(parameter.requires_grad == trains_neck for parameter in head.neck.parameters())
    assert head.neck(output.f_e).shape == (3, 4)


def test_initialisation() -> None:
    torch.manual_seed(0)
    head = build(embedding_dim=64, num_classes=200)
    norm = head.neck[0]
    assert torch.equal(norm.weight, torch.ones(64))
    assert torch.equal(norm.bias, torch.zeros(64))
    assert head.classifier.bias is None
    assert head.classifier.weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_logits_keep_the_precision_of_the_weights_under_autocast() -> None:
    head = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(torch.randn(3, 3, 4, 2))
    assert output.f_e.dtype == torch.bfloat16
    assert output.logits.dtype == torch.float32
    expected = output.f_r.float() @ head.classifier.weight.T
    torch.testing.assert_close(output.logits, expected)


def test_builds_from_a_configuration(make_cfg: Callable[..., Any]) -> None:
    cfg = make_cfg(MODEL__HEADS__PAP=3, MODEL__HEADS__NUM_CLASSES=7, MODEL__LOSSES__NAME=(CE,))
    head = build_heads(cfg)
    assert isinstance(head, PAPHead)
    assert head.pooling.granularities == 3
    assert head.hyper_network.fc.weight.shape == (16, 6 * 512)
    assert head.classifier.weight.shape == (7, 16)
    assert PAPHead(cfg, fusion="concat").embedding_dim == 6 * 512


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, r"MODEL\.HEADS\.POOLING must be one of .* got 'max'"),
        ({"output": "f_c"}, r"MODEL\.HEADS\.OUTPUT must be one of .* got 'f_c'"),
        ({"fusion": "sum"}, r"MODEL\.HEADS\.FUSION must be one of .* got 'sum'"),
        ({"embedding_dim": 0}, r"MODEL\.HEADS\.EMBEDDING_DIM.* got 0"),
        ({"granularities": 0}, r"MODEL\.HEADS\.PAP must be at least 1, got 0"),
    ],
)
def test_rejects_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**options)
