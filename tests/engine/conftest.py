"""A run that others are compared with."""

import time

import pytest

from resumed_runs import start


@pytest.fixture(scope="session")
def undisturbed(synthetic_root, tmp_path_factory):
    """The folder of a run that nothing disturbed, and the seconds it took."""
    output = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    process = start(synthetic_root, output)
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    return output, time.monotonic() - begin
