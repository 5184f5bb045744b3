"""Synthetic domains on disk: whole or not there, the same whoever renders them, and clear when it fails."""

import errno
import json
import multiprocessing
import re
import threading
from collections import Counter
from concurrent.futures import BrokenExecutor

import pytest
from PIL import Image

from nplp_synthetic import (
    GENERATOR_VERSION,
    DomainError,
    DomainSpec,
    DomainStyle,
    default_cache_root,
    ensure_domain,
    iter_images,
    render_domain,
    store,
)
from nplp_synthetic.spec import LATER_SETTINGS

SPEC = DomainSpec(
    train_identities=20,
    test_identities=15,
    images_per_identity=4,
    cameras=3,
    image_size=(32, 32),
    distractors=5,
    junk=3,
)
NAME = re.compile(r"(-1|\d{4})_c([1-3])s([12])_(\d{6})_0([01])\.jpg")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return ensure_domain(SPEC, tmp_path_factory.mktemp("cache"), workers=1)


def test_a_domain_lies_in_the_layout_of_market1501(rendered):
    assert re.fullmatch(r"plaza-[0-9a-f]{10}", rendered.name)
    expected = Counter(
        {"train": "bounding_box_train", "query": "query"}.get(r.split, "bounding_box_test")
        for r in iter_images(SPEC)
    )
    for folder, count in expected.items():
        paths = list((rendered / folder).iterdir())
        assert len(paths) == count
        for path in paths:
            assert NAME.fullmatch(path.name), path.name
            with Image.open(path) as picture:
                assert (picture.format, picture.size) == ("JPEG", (32, 32))


def test_the_manifest_tells_what_was_rendered(rendered):
    manifest = json.loads((rendered / "manifest.json").read_text())
    assert manifest["generator_version"] == GENERATOR_VERSION
    assert manifest["spec"]["train_identities"] == 20
    assert manifest["spec"]["style"]["camera_strength"] == SPEC.difficulty.camera_strength
    assert manifest["images"] == dict(Counter(record.split for record in iter_images(SPEC)))
    assert sum(manifest["images"].values()) == 35 * 4 + 8


def test_the_files_do_not_depend_on_the_number_of_processes(rendered, tmp_path):
    render_domain(SPEC, tmp_path, workers=3)
    assert contents(tmp_path) == contents(rendered)


def test_a_second_call_renders_nothing(rendered, monkeypatch):
    monkeypatch.setattr(store, "render_domain", lambda *_: pytest.fail("rendered again"))
    assert ensure_domain(SPEC, rendered.parent) == rendered
    assert [path.name for path in rendered.parent.iterdir() if not path.name.startswith(".")] == [
        rendered.name
    ]


def test_every_setting_and_the_generator_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "render_domain", fake_render)
    fields = (
        {},
        {"seed": 1},
        {"cameras": 4},
        {"image_size": (32, 40)},
        {"style": SPEC.difficulty.scaled(0.5)},
    )
    folders = {ensure_domain(DomainSpec(**fields_), tmp_path) for fields_ in fields}
    folders.add(ensure_domain(DomainSpec(name="station"), tmp_path))
    monkeypatch.setattr(store, "GENERATOR_VERSION", GENERATOR_VERSION + 1)
    folders.add(ensure_domain(DomainSpec(), tmp_path))
    assert len(folders) == len(fields) + 2


@pytest.mark.parametrize(
    ("name", "digits"), [("plaza", "80f8b13e73"), ("station", "85c1f95c7c"), ("campus", "99a3cb6914")]
)
def test_folders_drawn_before_there_were_more_settings_are_still_found(tmp_path, monkeypatch, name, digits):
    monkeypatch.setattr(store, "render_domain", lambda *_: pytest.fail("rendered again"))
    folder = tmp_path / f"{name}-{digits}"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    assert ensure_domain(DomainSpec(name), tmp_path) == folder


def test_a_later_setting_that_is_used_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "render_domain", fake_render)
    styles = [DomainStyle(), *(DomainStyle(**{setting: 0.5}) for setting in LATER_SETTINGS)]
    assert len({ensure_domain(DomainSpec(style=style), tmp_path) for style in styles}) == len(styles)


def fake_render(spec, folder, *_):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def test_a_half_written_domain_is_never_used(tmp_path, monkeypatch):
    def interrupted(spec, folder, *_):
        (folder / "query").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "render_domain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_domain(SPEC, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    monkeypatch.setattr(store, "render_domain", fake_render)
    assert (ensure_domain(SPEC, tmp_path) / "manifest.json").is_file()


def test_what_a_killed_run_left_behind_is_swept_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "render_domain", fake_render)
    folder = ensure_domain(SPEC, tmp_path / "first")
    (tmp_path / folder.name / "query").mkdir(parents=True)
    (tmp_path / f".{folder.name}-part-killed" / "domain").mkdir(parents=True)
    assert ensure_domain(SPEC, tmp_path) == tmp_path / folder.name
    assert [path for path in tmp_path.iterdir() if path.name.startswith(f".{folder.name}-part-")] == []
    assert not (tmp_path / folder.name / "query").exists()


def test_of_several_callers_one_renders(tmp_path, monkeypatch):
    rendering, results = [], []

    def slow(spec, folder, *_):
        rendering.append(folder)
        threading.Event().wait(0.2)
        fake_render(spec, folder)

    monkeypatch.setattr(store, "render_domain", slow)
    callers = [
        threading.Thread(target=lambda: results.append(ensure_domain(SPEC, tmp_path))) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(rendering) == 1
    assert len(results) == 4
    assert len(set(results)) == 1


def test_without_locks_the_slower_caller_takes_the_fasters_domain(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    def overtaken(spec, folder, *_):
        fake_render(spec, folder)
        faster = next(iter(tmp_path.glob(".plaza-*.lock"))).name[1:-5]
        fake_render(spec, tmp_path / faster)

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(store, "render_domain", overtaken)
    assert (ensure_domain(SPEC, tmp_path) / "manifest.json").is_file()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_folder_is_one_line(tmp_path, monkeypatch, number):
    def fail(spec, folder, *_):
        raise OSError(number, "reason from the system")

    monkeypatch.setattr(store, "render_domain", fail)
    with pytest.raises(
        DomainError, match="cannot write the synthetic domain to .*reason from the system; make room"
    ) as error:
        ensure_domain(SPEC, tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_file_in_the_folders_place_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(DomainError, match="cannot write the synthetic domain to"):
        ensure_domain(SPEC, tmp_path / "cache" / "inner")


def test_a_killed_worker_is_one_line(tmp_path, monkeypatch):
    def die(spec, folder, *_):
        raise BrokenExecutor("a child process terminated abruptly")

    monkeypatch.setattr(store, "render_domain", die)
    with pytest.raises(DomainError, match="was killed, perhaps for want of memory; use fewer workers"):
        ensure_domain(SPEC, tmp_path)


def test_the_number_of_workers_is_checked(tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1 or None, got 0"):
        render_domain(SPEC, tmp_path, workers=0)


def _render_in_daemon(folder):
    render_domain(SPEC, folder, workers=2)


def test_a_daemon_renders_without_children(rendered, tmp_path):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    process = multiprocessing.get_context("fork").Process(
        target=_render_in_daemon, args=(tmp_path,), daemon=True
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert contents(tmp_path) == contents(rendered)


def test_progress_is_silent_where_there_is_no_terminal(tmp_path, capfd):
    render_domain(SPEC, tmp_path, progress=True, workers=1)
    assert capfd.readouterr() == ("", "")


def test_the_cache_is_configured_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NPLP_CACHE", str(tmp_path))
    assert default_cache_root() == tmp_path
    monkeypatch.delenv("NPLP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_root() == tmp_path / ".cache" / "nplp"


def test_without_a_home_folder_the_cache_must_be_named(monkeypatch):
    monkeypatch.setenv("NPLP_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(DomainError, match=r"^the folder for synthetic domains is ~nobody.* NPLP_CACHE$"):
        default_cache_root()
