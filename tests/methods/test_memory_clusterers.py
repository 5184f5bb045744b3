"""The cluster memory with clusterers without a radius: wrong keys and missing packages in one line."""

import pytest

from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.methods import build_method
from tiny import make_tiny_cfg

CONFIG = "configs/methods/memory_quickstart.yml"


def method_of(synthetic_root, folder, *pairs):
    cfg = make_tiny_cfg(synthetic_root, folder / "run", *pairs, config_file=CONFIG)
    return build_method(cfg, ReidTrainer.build_model(cfg))


def test_an_unknown_clusterer_is_named(synthetic_root, tmp_path):
    with pytest.raises(UserError, match=r"NPLP.MEMORY.CLUSTERER must be one of .* got 'kmeans'"):
        method_of(synthetic_root, tmp_path, "NPLP.MEMORY.CLUSTERER", "kmeans")


@pytest.mark.parametrize("clusterer", ["hdbscan", "infomap"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    synthetic_root, tmp_path, monkeypatch, clusterer
):
    monkeypatch.setattr("nplp.clustering.without_epsilon.find_spec", lambda name: None)
    method_of(synthetic_root, tmp_path, "NPLP.MEMORY.CLUSTERER", "dbscan")
    with pytest.raises(UserError, match=rf"needs the package \w+, .*pip install 'nplp\[{clusterer}\]'"):
        method_of(synthetic_root, tmp_path, "NPLP.MEMORY.CLUSTERER", clusterer)
