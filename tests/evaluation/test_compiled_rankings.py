"""Building the Cython rankings: once, somewhere else, and never fatally."""

import logging
import os
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

from nplp.evaluation import compiled
from nplp.evaluation.compiled import cache_folder, compiled_rankings

LIBRARY = f"rank_cy{sysconfig.get_config_var('EXT_SUFFIX')}"

GOOD = {
    "rank_cy": "def evaluate_cy(*args): return [0.0, 1.0], [0.5], [0.5]",
    "roc_cy": "def evaluate_roc_cy(*args): return [1.0, 0.0], [0.0, 1.0]",
}


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a function that builds small sources into an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(**changes: str):
        folder = tmp_path / "sources"
        folder.mkdir(exist_ok=True)
        for name, text in {**GOOD, **changes}.items():
            (folder / f"{name}.pyx").write_text(text, encoding="utf-8")
        compiled_rankings.cache_clear()
        return compiled_rankings(folder)

    yield run
    compiled_rankings.cache_clear()


@pytest.fixture
def _compiler():
    if shutil.which("cc") is None or compiled.importlib.util.find_spec("Cython") is None:
        pytest.skip("no Cython or no compiler here")


def said(caplog) -> str:
    [record] = [record for record in caplog.records if "not available" in record.message]
    assert record.levelno == logging.INFO
    assert "\n" not in record.message
    return record.message


def test_the_toolbox_sources_build_here(cython_rankings):
    distances = np.array([[0.2, 0.1, 0.3]], dtype=np.float32)
    labels = [np.array(x) for x in ([1], [1, 2, 1], [0], [1, 0, 1])]
    cmc, all_ap, all_inp = cython_rankings["rank_cy"].evaluate_cy(distances, *labels, 3)
    assert cmc.tolist() == [0.0, 1.0, 1.0]
    np.testing.assert_allclose([all_ap[0], all_inp[0]], [(1 / 2 + 2 / 3) / 2, 2 / 3], rtol=1e-6)


@pytest.mark.usefixtures("_compiler")
def test_what_is_built_is_kept_and_the_sources_are_not_touched(build, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="nplp")
    modules = build()
    assert sorted(modules) == ["rank_cy", "roc_cy"]
    assert modules["rank_cy"].__name__ == "fastreid.evaluation.rank_cylib.rank_cy"
    assert modules["roc_cy"].evaluate_roc_cy() == ([1.0, 0.0], [0.0, 1.0])
    assert sorted(path.name for path in (tmp_path / "sources").iterdir()) == ["rank_cy.pyx", "roc_cy.pyx"]
    [folder] = cache_folder().iterdir()
    assert (folder / LIBRARY).is_file()
    assert len(list(folder.iterdir())) == 2

    def forbidden(*args, **kwargs):
        raise AssertionError("built again")

    monkeypatch.setattr(subprocess, "run", forbidden)
    assert sorted(build()) == ["rank_cy", "roc_cy"]
    assert not [record for record in caplog.records if "not available" in record.message]


def test_a_build_that_another_process_finished_first_is_used(build, monkeypatch):
    build_names = []

    def build_slowly(sources, place):
        build_names.append("ours" if not build_names else "theirs")
        name = build_names[-1]
        if name == "ours":
            # While this build is under way, another one starts and ends.
            compiled._built_folder(sources)
        (place / LIBRARY).write_text(name, encoding="utf-8")

    monkeypatch.setattr(compiled, "_build", build_slowly)
    build()
    [folder] = cache_folder().iterdir()
    assert build_names == ["ours", "theirs"]
    assert (folder / LIBRARY).read_text(encoding="utf-8") == "theirs"


@pytest.mark.long
@pytest.mark.usefixtures("_compiler")
def test_two_processes_may_build_at_once(build, tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    for name, text in GOOD.items():
        (sources / f"{name}.pyx").write_text(text, encoding="utf-8")
    script = (
        "import sys; sys.modules['fastreid'] = None\n"
        "from pathlib import Path\n"
        "from nplp.evaluation.compiled import compiled_rankings\n"
        "print(sorted(compiled_rankings(Path(sys.argv[1]))))\n"
    )
    command = [sys.executable, "-c", script, str(sources)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    for process in started:
        printed, _ = process.communicate(timeout=120)
        assert printed.strip() == "['rank_cy', 'roc_cy']"
    assert len(list(cache_folder().iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cdef long[:] broken = nonsense(", "the build ended with status"),
        ("def evaluate_cy(*args): return [1.0, 1.0], [0.5], [0.5]", "the built rankings gave"),
        ("import os\ndef evaluate_cy(*args): os.abort()", "the build ended with status -"),
    ],
    ids=["does not compile", "ranks wrongly", "crashes"],
)
@pytest.mark.usefixtures("_compiler")
def test_what_does_not_work_is_not_used(build, caplog, text, message):
    caplog.set_level(logging.INFO, logger="nplp")
    assert build(rank_cy=text) == {}
    assert message in said(caplog)
    assert list(cache_folder().iterdir()) == []


def test_a_build_that_takes_too_long_is_given_up(build, caplog, monkeypatch):
    if compiled.importlib.util.find_spec("Cython") is None:
        pytest.skip("no Cython here")
    caplog.set_level(logging.INFO, logger="nplp")
    monkeypatch.setattr(compiled, "BUILD_SECONDS", 0.01)
    assert build() == {}
    assert "took over 0.01 seconds" in said(caplog)


@pytest.mark.parametrize("package", ["Cython", "setuptools"])
def test_a_missing_package_is_named(build, caplog, monkeypatch, package):
    caplog.set_level(logging.INFO, logger="nplp")
    monkeypatch.setattr(
        compiled.importlib.util, "find_spec", lambda name: None if name == package else object()
    )
    assert build() == {}
    assert f"{package} is not installed" in said(caplog)


def test_a_cache_that_cannot_be_written_is_no_error(build, caplog, tmp_path, monkeypatch):
    caplog.set_level(logging.INFO, logger="nplp")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build() == {}
    assert "not available" in said(caplog)


def test_a_broken_library_in_the_cache_is_no_error(build, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="nplp")

    def leave_rubbish(sources, place):
        for name in GOOD:
            (place / LIBRARY.replace("rank_cy", name)).write_bytes(b"rubbish")

    monkeypatch.setattr(compiled, "_build", leave_rubbish)
    assert build() == {}
    assert "rank_cy" in said(caplog)


def test_missing_sources_are_no_error(caplog, tmp_path):
    caplog.set_level(logging.INFO, logger="nplp")
    compiled_rankings.cache_clear()
    assert compiled_rankings(tmp_path) == {}
    assert "rank_cy.pyx" in said(caplog)
    # Asked again, it does not try again.
    caplog.clear()
    assert compiled_rankings(tmp_path) == {}
    assert not caplog.records


@pytest.mark.parametrize(
    ("variable", "expected"), [("/somewhere", "/somewhere/nplp/rankings"), ("", "/me/.cache/nplp/rankings")]
)
def test_the_cache_is_the_users(monkeypatch, variable, expected):
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    monkeypatch.setenv("HOME", "/me")
    assert str(cache_folder()) == expected


@pytest.mark.parametrize("cache", ["{file}/cache", "~nobody-of-this-name/cache"])
def test_without_a_folder_that_can_be_written_numpy_ranks_and_one_line_says_so(
    build, caplog, monkeypatch, tmp_path, cache
):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", cache.format(file=tmp_path / "file"))
    with caplog.at_level(logging.INFO):
        assert build() == {}
    assert cache.split("/")[0].format(file=tmp_path) in said(caplog)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("~")]
