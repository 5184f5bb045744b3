"""What a report of a problem holds, and what it must not hold."""

import getpass
import json
import os
import platform
import socket
from importlib.metadata import version

import pytest

from nplp_commands import env


@pytest.fixture
def private(monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", "/home/somebody/data")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-somebody")
    monkeypatch.delenv("NPLP_ZOO", raising=False)


def test_it_shows_versions_devices_and_settings_without_paths_or_names(nplp, private):
    code, shown = nplp("env")
    assert (code, shown.err) == (0, "")
    words = {line.split()[0]: line.split()[1:] for line in shown.out.splitlines() if line.startswith("  ")}
    assert words["python"] == [platform.python_version()]
    assert words["torch"] == [version("torch")]
    assert (words["OMP_NUM_THREADS"], words["FASTREID_DATASETS"], words["NPLP_ZOO"]) == (
        ["3"],
        ["set"],
        ["not", "set"],
    )
    assert words["CUDA_VISIBLE_DEVICES"] == ["set"]
    assert words["toolbox"] == ["ready"]
    for secret in ("somebody", os.getcwd(), os.path.expanduser("~"), socket.gethostname()):
        assert secret not in shown.out
    assert getpass.getuser() not in shown.out.split()


def test_programs_get_the_same_as_json(nplp, private):
    code, shown = nplp("env", "--json")
    assert code == 0
    content = json.loads(shown.out)
    assert list(content) == ["versions", "system", "devices", "settings", "hints"]
    assert content["versions"]["numpy"] == version("numpy")
    assert content["devices"]["gpus"] == [] or "GB" in content["devices"]["gpus"][0]
    assert "somebody" not in shown.out


def test_a_missing_toolbox_is_a_hint_with_the_command(nplp, monkeypatch):
    monkeypatch.setattr("nplp.host.toolbox_fault", lambda: "it is not installed")
    monkeypatch.setattr(env, "names_of", dict)
    hints = env.facts()["hints"]
    assert hints["toolbox"] == "it is not installed: pip install --no-deps fastreid==1.4.0"
    assert hints["configurations"].startswith("missing")
