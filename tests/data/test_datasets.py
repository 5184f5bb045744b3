"""Data sets by name: the toolbox's layouts, the synthetic domains, and what is wrong with a folder."""

import numpy as np
import pytest

from nplp.data.datasets import SYNTHETIC, index_cameras, load_dataset
from nplp.data.loaders import TrainSet, build_test_loader, build_train_loader
from nplp.errors import UserError
from nplp_synthetic import DOMAINS, DomainSpec, write_duke, write_market, write_msmt17
from tiny import TINY

SPEC = DomainSpec(
    name="station",
    **{key.lower(): tuple(value) if isinstance(value, list) else value for key, value in TINY.items()},
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Small folders in the three benchmarks' layouts."""
    folder = tmp_path_factory.mktemp("datasets")
    for write in (write_market, write_duke, write_msmt17):
        write(SPEC, folder)
    return folder


@pytest.fixture
def datasets(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return root


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC", "MSMT17"])
def test_layouts_are_read(tiny_cfg, datasets, name):
    data = load_dataset(tiny_cfg, name)
    # MSMT17 keeps some identities for validation; the toolbox leaves them out.
    held_out = 1 if name == "MSMT17" else 0
    assert len({identity for _, identity, _ in data.train}) == SPEC.train_identities - held_out
    assert len(set(index_cameras(data.train).tolist())) <= SPEC.cameras
    train_people = {str(identity) for _, identity, _ in data.train}
    assert not train_people & {str(identity) for _, identity, _ in data.query}
    assert {identity for _, identity, _ in data.query} <= {identity for _, identity, _ in data.gallery}
    for items in (data.train, data.query, data.gallery):
        assert [item[0] for item in items] == sorted(item[0] for item in items)


@pytest.mark.parametrize(
    ("name", "larger"), [("SynthPlaza", 1), ("SynthStation", 1), ("SynthCampus", 2), ("SynthHarbour", 1)]
)
def test_synthetic_domains_are_rendered_once_and_read(tiny_cfg, name, larger):
    data = load_dataset(tiny_cfg, name)
    again = load_dataset(tiny_cfg, name)
    assert again == data
    assert len({identity for _, identity, _ in data.train}) == larger * SPEC.train_identities
    assert len({identity for _, identity, _ in data.query}) == larger * SPEC.test_identities
    assert len({camera for _, _, camera in data.train}) == larger * SPEC.cameras
    assert all(identity >= 0 for _, identity, _ in data.gallery), "junk is left out"


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC", "MSMT17"])
def test_a_missing_root_is_one_line_that_helps(tiny_cfg, tmp_path, monkeypatch, name):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError) as caught:
        load_dataset(tiny_cfg, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: looked for ")
    assert str(tmp_path / "nowhere") in message
    assert "FASTREID_DATASETS" in message
    assert "make quickstart" in message
    assert "\n" not in message


def market_folder(tmp_path, train=(), query=(), gallery=()):
    for subfolder, names in (("bounding_box_train", train), ("query", query), ("bounding_box_test", gallery)):
        folder = tmp_path / "Market-1501-v15.09.15" / subfolder
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "the train set .* holds no image"),
        ({"train": ["0002_c1s1_000001_00.jpg"]}, "the query set .* holds no image"),
        ({"train": ["holiday.jpg"]}, "does not follow the data set's naming"),
    ],
)
def test_a_folder_of_something_else_is_one_line(tiny_cfg, tmp_path, monkeypatch, files, message):
    market_folder(tmp_path, **files)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(tiny_cfg, "Market1501")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones(tiny_cfg):
    with pytest.raises(UserError, match="unknown data set 'Market1502'.*SynthPlaza.*Market1501"):
        load_dataset(tiny_cfg, "Market1502")


@pytest.mark.parametrize("name", SYNTHETIC)
def test_the_harbour_alone_keeps_its_own_style(tiny_cfg, monkeypatch, name):
    specs = []

    def rendered(spec, *_, **__):
        specs.append(spec)
        raise UserError("drawn")

    monkeypatch.setattr("nplp.data.registered._rendered", rendered)
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.SYNTHETIC.STYLE.CLUTTER = 1.7
    with pytest.raises(UserError, match="drawn"):
        load_dataset(cfg, name)
    (spec,) = specs
    if name == "SynthHarbour":
        assert spec.style == DOMAINS["harbour"]
    else:
        assert spec.style.clutter == 1.7


def test_a_wrong_style_is_refused_whatever_the_domain(tiny_cfg):
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.SYNTHETIC.STYLE.HAZE = 5.0
    with pytest.raises(UserError, match=r"DATASETS\.SYNTHETIC: haze must be a number in \[0, 4\], got 5.0"):
        load_dataset(cfg, "SynthHarbour")


def test_a_wrong_synthetic_size_names_the_field(tiny_cfg):
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.SYNTHETIC.CAMERAS = 0
    with pytest.raises(UserError, match="cameras"):
        load_dataset(cfg, "SynthPlaza")


def test_cameras_are_numbered_in_the_order_of_their_names():
    items = [("a", 0, "m_2"), ("b", 0, "m_0"), ("c", 0, "m_2"), ("d", 0, "m_1")]
    np.testing.assert_array_equal(index_cameras(items), [2, 0, 2, 1])


@pytest.fixture
def train_set(tiny_cfg):
    items = load_dataset(tiny_cfg, "SynthStation").train
    labels = np.arange(len(items)) % 7 - 1
    return TrainSet(tiny_cfg, items, labels, index_cameras(items)), items, labels


def test_outliers_take_no_part(train_set):
    made, items, labels = train_set
    assert len(made) == (labels >= 0).sum()
    assert made.num_classes == 6
    assert min(record[1] for record in made.dataset.img_items) == 0
    kept = [items[i][0] for i in np.flatnonzero(labels >= 0)]
    assert [record[0] for record in made.dataset.img_items] == kept


def test_batches_carry_pseudo_labels_and_images_of_the_configured_size(train_set, tiny_cfg):
    made, _, _ = train_set
    batches = list(build_train_loader(made, num_batches=3, seed=1))
    assert len(batches) == 3
    for batch in batches:
        assert tuple(batch["images"].shape) == (16, 3, 32, 16)
        assert batch["targets"].unique(return_counts=True)[1].tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("sampler", ["TrainingSampler", "BalancedIdentitySampler"])
def test_the_toolboxs_sampler_names_are_understood(train_set, sampler):
    made, _, _ = train_set
    made.cfg = made.cfg.clone()
    made.cfg.defrost()
    made.cfg.DATALOADER.SAMPLER_TRAIN = sampler
    assert len(next(iter(build_train_loader(made, num_batches=1, seed=0)))["targets"]) == 16


def test_a_batch_that_does_not_divide_over_the_processes_is_refused(train_set, monkeypatch):
    made, _, _ = train_set
    monkeypatch.setattr("nplp.data.loaders.comm.get_world_size", lambda: 3)
    with pytest.raises(UserError, match="SOLVER.IMS_PER_BATCH: batch_size must be a positive multiple"):
        build_train_loader(made, num_batches=1, seed=0)


def test_the_test_loader_keeps_the_order_and_does_not_augment(tiny_cfg):
    data = load_dataset(tiny_cfg, "SynthStation")
    first = [path for batch in build_test_loader(tiny_cfg, data.query) for path in batch["img_paths"]]
    assert first == [item[0] for item in data.query]
    images = [next(iter(build_test_loader(tiny_cfg, data.query)))["images"] for _ in range(2)]
    assert (images[0] == images[1]).all()
