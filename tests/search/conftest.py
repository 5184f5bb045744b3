"""Folders of runs, and crops."""

import pytest

from untrained import CAMERAS, draw_crops, make_run


@pytest.fixture(scope="session")
def crops(tmp_path_factory):
    """60 crops of 6 people in 2 cameras."""
    return draw_crops(tmp_path_factory.mktemp("crops"))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run without statistics of cameras."""
    folder = tmp_path_factory.mktemp("runs") / "site"
    make_run(folder)
    return folder


@pytest.fixture(scope="session")
def camera_run(tmp_path_factory):
    """A run with statistics of both cameras, and its configuration."""
    folder = tmp_path_factory.mktemp("runs") / "cameras"
    return folder, make_run(folder, cameras=CAMERAS)
