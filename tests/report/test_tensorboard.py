"""TensorBoard has the scalars, the histograms and the features of a run."""

import json

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nplp.report.reading import read_run


def test_scalars_and_histograms_by_iteration(finished_run):
    events = EventAccumulator(str(finished_run), size_guidance={"histograms": 0}).Reload()
    history = read_run(finished_run).history
    for key in ("epsilon_e", "clusters", "outliers", "precision", "recall", "nmi", "mixed_noise"):
        values = [event.value for event in events.Scalars(f"labels/{key}")]
        assert len(values) == len(history) == 3
        for value, line in zip(values, history, strict=True):
            assert abs(value - line[key]) <= 1e-4 * max(1, abs(line[key]))
    assert {"total_loss", "loss_triplet", "loss_cc", "Rank-1", "mAP"} <= set(events.Tags()["scalars"])
    sizes = events.Histograms("labels/cluster_sizes")
    assert [event.histogram_value.num for event in sizes] == [line["clusters"] for line in history]
    assert len(events.Histograms("labels/self_assessment")) == 1


def test_the_same_scalars_are_in_the_lines(finished_run):
    lines = [json.loads(line) for line in (finished_run / "metrics.json").open()]
    found = [line["labels/epsilon_e"] for line in lines if "labels/epsilon_e" in line]
    assert found == [line["epsilon_e"] for line in read_run(finished_run).history]


def test_the_projector_has_three_stages_with_images(finished_run):
    folder = finished_run / "projection"
    config = (folder / "projector_config.pbtxt").read_text()
    sample = read_run(finished_run).images["sample"]
    for step, stage in enumerate(("direct_transfer", "startup", "final")):
        assert f"{step:05d}/{stage}/tensors.tsv" in config
        rows = (folder / f"{step:05d}" / stage / "tensors.tsv").read_text().splitlines()
        assert len(rows) == len(sample)
        metadata = (folder / f"{step:05d}" / stage / "metadata.tsv").read_text().splitlines()
        assert metadata[0] == "camera\tperson"
        assert len(metadata) == len(sample) + 1
        assert Image.open(folder / f"{step:05d}" / stage / "sprite.png").size[0] >= 32
