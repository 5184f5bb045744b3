"""The rendered pictures: deterministic, different by camera and domain, alike by person."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from nplp_synthetic import DomainSpec, DomainStyle, contact_sheet, iter_images, render_image
from nplp_synthetic.camera import camera_of
from nplp_synthetic.cast import Cast
from nplp_synthetic.images import DISTRACTOR, JUNK, extra_records, identity_records
from nplp_synthetic.scenes import backdrop

EASY = DomainStyle(**dict.fromkeys(DomainStyle.__dataclass_fields__, 0.0))
DIGEST = """
import hashlib
from nplp_synthetic import DomainSpec, iter_images, render_image
spec = DomainSpec("station", 2, 2, image_size=(64, 32), distractors=2, junk=2)
print(hashlib.sha256(b"".join(render_image(spec, r).tobytes() for r in iter_images(spec))).hexdigest())
"""


def pixels(spec, record):
    return np.asarray(render_image(spec, record), np.float64)


def forget():
    backdrop.cache_clear()
    camera_of.cache_clear()


def test_the_same_record_gives_the_same_pixels_in_another_process_and_order():
    spec = DomainSpec("station", 2, 2, image_size=(64, 32), distractors=2, junk=2)
    records = list(iter_images(spec))
    forget()
    backwards = [render_image(spec, record).tobytes() for record in reversed(records)]
    elsewhere = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    digest = hashlib.sha256(b"".join(reversed(backwards))).hexdigest()
    assert elsewhere.stdout.split()[-1] == digest


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (97, 43), (256, 128), (384, 128)])
def test_pictures_have_the_size_asked_for(size):
    spec = DomainSpec(image_size=size)
    records = [identity_records(spec, 1)[0], *extra_records(spec, DISTRACTOR, range(3))]
    for record in [*records, *extra_records(spec, JUNK, range(3))]:
        picture = render_image(spec, record)
        assert picture.size == (size[1], size[0])
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 5


def test_all_images_of_a_domain_differ():
    spec = DomainSpec(train_identities=3, test_identities=3, distractors=6, junk=6, image_size=(64, 32))
    seen = [render_image(spec, record).tobytes() for record in iter_images(spec)]
    assert len(set(seen)) == len(seen)


def test_the_station_is_darker_and_bluer_than_the_plaza():
    means = {}
    for name in ("plaza", "station"):
        spec = DomainSpec(name=name, image_size=(64, 32))
        records = [record for identity in range(1, 9) for record in identity_records(spec, identity)]
        means[name] = np.mean([pixels(spec, record).mean((0, 1)) for record in records], 0)
    assert means["plaza"].mean() > means["station"].mean() + 20
    assert means["plaza"][0] / means["plaza"][2] > means["station"][0] / means["station"][2]


def test_camera_strength_drives_cameras_apart():
    def spread(strength):
        spec = DomainSpec(image_size=(64, 32), style=DomainStyle(camera_strength=strength))
        return np.std([camera_of(spec, c).light.values() for c in range(1, 7)], 0)

    assert np.allclose(spread(0.0), 0)
    assert (spread(1.0) > 0.03).all()
    assert np.allclose(spread(2.0), 2 * spread(1.0))


def test_domain_strength_zero_leaves_neutral_light():
    lights = [camera_of(DomainSpec(name=n, style=EASY), 1).light.values() for n in ("plaza", "station")]
    assert lights == [(0.0,) * 6] * 2


def test_cameras_share_out_each_range_evenly():
    spec = DomainSpec(cameras=10)
    pitches = sorted(camera_of(spec, camera).pitch for camera in range(1, 11))
    assert all(0.06 + 0.03 * i <= pitch <= 0.06 + 0.03 * (i + 1) for i, pitch in enumerate(pitches))


def test_frames_of_a_visit_are_more_alike_than_visits_to_other_cameras():
    spec = DomainSpec(image_size=(64, 32))
    within, across = [], []
    for identity in range(1, 13):
        shots = [(r, pixels(spec, r).mean((0, 1))) for r in identity_records(spec, identity)]
        for i, (first, a) in enumerate(shots):
            for second, b in shots[:i]:
                same = (first.camera, first.sequence) == (second.camera, second.sequence)
                (within if same else across).append(np.abs(a - b).sum())
    assert np.mean(within) < 0.5 * np.mean(across)


def cross_camera_rank1(spec):
    """Rank-1 of the crops' middle columns, averaged in bands, between different cameras."""
    records = [r for r in iter_images(spec) if r.split in ("query", "gallery")]
    height, width = spec.image_size
    features = []
    for record in records:
        middle = pixels(spec, record)[:, width // 4 : -width // 4]
        bands = middle[: height // 16 * 16].reshape(16, -1, middle.shape[1], 3).mean((1, 2)).ravel()
        features.append(bands - bands.mean())
    hits = []
    for i, query in enumerate(records):
        if query.split == "query":
            others = [j for j, r in enumerate(records) if r.split == "gallery" and r.camera != query.camera]
            nearest = min(others, key=lambda j: np.abs(features[i] - features[j]).sum())
            hits.append(records[nearest].identity == query.identity)
    return np.mean(hits)


def test_people_are_recognisable_across_cameras_and_less_so_when_it_is_made_hard():
    sizes = {
        "train_identities": 1,
        "test_identities": 20,
        "images_per_identity": 8,
        "distractors": 0,
        "junk": 0,
        "image_size": (64, 32),
    }
    easy = cross_camera_rank1(DomainSpec(style=EASY, **sizes))
    hard = cross_camera_rank1(DomainSpec(style=DomainStyle().scaled(2.0), **sizes))
    assert easy > 0.6
    assert hard < easy - 0.25


def test_a_hand_drawn_box_fits_better_than_a_detectors():
    spec = DomainSpec(style=DomainStyle(box_jitter=2))
    cast = Cast(spec, None, camera_of(spec, 1), np.random.default_rng(0))
    loose = np.array([cast._detector_box(1.0).centre for _ in range(400)])
    tight = np.array([cast._detector_box(0.4).centre for _ in range(400)])
    assert tight.std() < 0.6 * loose.std()


@pytest.mark.parametrize("setting", ["occlusion_rate", "bystander_rate"])
def test_occluders_and_bystanders_come_at_the_rate_asked_for(setting, monkeypatch):
    painted = []
    method = {"occlusion_rate": "occlude", "bystander_rate": "bystander_behind"}[setting]
    monkeypatch.setattr(Cast, method, lambda self: painted.append(1))
    shown = {}
    for rate in (0.0, 0.5, 1.0):
        spec = DomainSpec(image_size=(32, 32), style=DomainStyle(**{setting: rate}))
        painted.clear()
        records = [record for identity in range(1, 9) for record in identity_records(spec, identity)]
        for record in records:
            render_image(spec, record)
        shown[rate] = len(painted) / len(records)
    assert shown[0.0] == 0
    assert 0.35 < shown[0.5] < 0.65
    assert shown[1.0] == 1


def test_a_scene_without_clutter_is_flat():
    def contrast(clutter):
        style = DomainStyle(clutter=clutter, camera_strength=0)
        return np.asarray(backdrop(DomainSpec(style=style), 1), np.float64).std((0, 1)).mean()

    assert contrast(0.0) < 1
    assert contrast(1.0) > 10


def test_a_contact_sheet_has_a_row_a_person_and_a_column_a_camera():
    spec = DomainSpec(cameras=4, image_size=(64, 32))
    sheet = np.asarray(contact_sheet(spec, [1, 2, 3], images_per_cell=2))
    assert sheet.shape == (3 * 66 + 2, 4 * 66 + 2, 3)
    for row, identity in enumerate((1, 2, 3)):
        seen = {record.camera for record in identity_records(spec, identity)}
        for camera in range(1, 5):
            cell = sheet[2 + 66 * row : 66 * (row + 1), 2 + 66 * (camera - 1) : 66 * camera]
            assert (np.ptp(cell) > 0) == (camera in seen)
