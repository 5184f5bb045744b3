"""Models whose batch norms divide a batch."""

import pytest
import torch

from nplp.errors import UserError
from nplp.layers import GroupedBatchNorm1d, GroupedBatchNorm2d
from nplp.modeling import NPLP, PAPHead
from nplp.modeling.norms import check_chunks, order_by_camera


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
    with pytest.raises(UserError, match=r"MODEL\.NORM_CHUNK 8: the model has no batch norms, leave it out"):
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


def test_parts_must_divide_the_share_and_chunks_the_parts(make_cfg):
    check_chunks(make_cfg(MODEL__NORM_CHUNK=8, SOLVER__ACCUMULATE=4), 2)
    with pytest.raises(
        UserError, match=r"^SOLVER\.ACCUMULATE must divide the 32 images .* 2 process.*, got 3$"
    ):
        check_chunks(make_cfg(SOLVER__ACCUMULATE=3), 2)
    message = r"must divide the 8 images .* in each of SOLVER\.ACCUMULATE 8 parts, got 16$"
    with pytest.raises(UserError, match=message):
        check_chunks(make_cfg(MODEL__NORM_CHUNK=16, SOLVER__ACCUMULATE=8), 1)


@pytest.mark.parametrize(
    ("cameras", "groups"),
    [
        # Two cameras of four and five images.
        ([1, 0, 1, 0, 1, 0, 1, 0, 0], [[1, 3, 5, 7, 8], [0, 2, 4, 6]]),
        # Cameras of few images, and images without one, are a group together.
        ([0, 2, 0, 1, 0, -1, 0, 1], [[0, 2, 4, 6], [1, 3, 5, 7]]),
        # Fewer than four of them go to the largest camera.
        ([3, 3, 3, 3, 7, 7, 7, 7, 7, 2], [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]),
        # Nothing is large enough, or known.
        ([0, 1, 2, 0], [[0, 1, 2, 3]]),
        ([-1, -1, -1, -1, -1], [[0, 1, 2, 3, 4]]),
        ([5, 5], [[0, 1]]),
    ],
)
def test_groups_of_a_batch(cameras, groups):
    order, sizes = order_by_camera(torch.tensor(cameras))
    assert [part.tolist() for part in order.split(sizes)] == groups


def camera_model(**options):
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 4, stride=4), torch.nn.BatchNorm2d(5), torch.nn.ReLU()
    )
    losses = ("TripletLoss",)
    return NPLP(
        backbone=backbone,
        heads=PAPHead(feat_dim=5, embedding_dim=4, loss_names=losses),
        loss_names=losses,
        pixel_mean=[128.0] * 3,
        pixel_std=[64.0] * 3,
        **options,
    )


IMAGES = torch.rand(12, 3, 16, 8, generator=torch.Generator().manual_seed(0)) * 255
CAMERAS = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0])


class TestCameraNorms:
    def test_training_normalises_each_camera_by_itself(self):
        ours, plain = camera_model(norm_cameras=True).train(), camera_model().train()
        seen = []
        ours.objective = plain.objective = lambda output, batch: seen.append(output.f_e) or {}
        targets = torch.arange(12)
        ours({"images": IMAGES, "targets": targets, "camids": CAMERAS})
        for camera in range(2):
            own = camera == CAMERAS
            plain({"images": IMAGES[own], "targets": targets[own]})
            torch.testing.assert_close(seen[0][own], seen[-1])

    def test_gradients_are_those_of_each_camera_by_itself(self):
        ours, plain = camera_model(norm_cameras=True).train(), camera_model().train()
        for model in (ours, plain):
            model.objective = lambda output, batch: {"loss": (output.f_e * batch["weights"]).sum()}
        weights, targets = torch.randn(12, 4), torch.arange(12)
        batch = {"images": IMAGES, "targets": targets, "camids": CAMERAS, "weights": weights}
        ours(batch)["loss"].backward()
        for camera in range(2):
            own = camera == CAMERAS
            plain({name: value[own] for name, value in batch.items()})["loss"].backward()
        for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
            assert (mine.grad is None) == (other.grad is None)
            if mine.grad is not None:
                torch.testing.assert_close(mine.grad, other.grad)

    def test_training_needs_the_cameras(self):
        with pytest.raises(ValueError, match="needs a batch with 'camids', got none"):
            camera_model(norm_cameras=True).train()({"images": IMAGES, "targets": torch.arange(12)})

    def test_evaluation_takes_the_row_of_the_camera(self):
        model, plain = camera_model(norm_cameras=True).eval(), camera_model().eval()
        model.cameras.assign(["left", "right"])
        mean, variance = torch.randn(3, 5), torch.rand(3, 5) + 0.5
        model.camera_norms.assign(mean, variance)
        names = ["right", "left", "elsewhere"]
        features = model({"images": IMAGES[:3], "cameras": names})
        for number, row in enumerate((1, 0, 2)):
            plain.backbone[1].running_mean.copy_(mean[row])
            plain.backbone[1].running_var.copy_(variance[row])
            torch.testing.assert_close(features[number], plain(IMAGES[number : number + 1])[0])
        # Without cameras all are unknown.
        torch.testing.assert_close(model(IMAGES[2:3])[0], features[2])

    def test_before_it_is_measured_evaluation_is_that_of_a_plain_model(self):
        model, plain = camera_model(norm_cameras=True).eval(), camera_model().eval()
        assert torch.equal(model({"images": IMAGES, "cameras": ["a"] * 12}), plain(IMAGES))
        assert list(model.state_dict()) == list(plain.state_dict())

    def test_tables_travel_with_the_state(self):
        model, other = camera_model(norm_cameras=True).eval(), camera_model(norm_cameras=True).eval()
        model.cameras.assign(["left", "right"])
        model.camera_norms.assign(torch.randn(3, 5), torch.rand(3, 5) + 0.5)
        other.load_state_dict(model.state_dict())
        batch = {"images": IMAGES[:3], "cameras": ["right", "left", "elsewhere"]}
        assert torch.equal(model(batch), other(batch))
        other.load_state_dict(camera_model().state_dict())
        assert not other.camera_norms.measured

    def test_damaged_tables_are_refused(self):
        model = camera_model(norm_cameras=True)
        model.cameras.assign(["left", "right"])
        model.camera_norms.assign(torch.randn(3, 5), torch.rand(3, 5))
        for key, value in (
            ("mean", torch.randn(2, 5)),
            ("variance", -torch.ones(3, 5)),
            ("mean", torch.full((3, 5), torch.inf)),
        ):
            state = {**model.state_dict(), f"camera_norms.{key}": value}
            with pytest.raises(UserError, match=r"batch norms by camera .* \(3, 5\) is needed for 2 cameras"):
                camera_model(norm_cameras=True).load_state_dict(state)

    def test_the_neck_is_not_among_them(self):
        model = camera_model(norm_cameras=True)
        assert not isinstance(model.heads.neck[0], GroupedBatchNorm1d)
        assert isinstance(model.backbone[1], GroupedBatchNorm2d)
