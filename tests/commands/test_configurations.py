"""The project's configurations by name, in a checkout and in an installed package."""

import argparse
import os
import shutil
from pathlib import Path

import pytest
import yaml

from nplp.errors import UserError
from nplp_commands import configurations, export, train
from nplp_commands.configurations import find_configuration, method_overlays, name_in_project, names_of

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As in site-packages: the files lie in the package, and there is no checkout around it."""
    monkeypatch.setattr(configurations, "PACKED", tmp_path / "site" / "nplp_commands")
    monkeypatch.setattr(configurations, "CHECKOUT", tmp_path)
    shutil.copytree(CONFIGS, tmp_path / "site" / "nplp_commands" / "configs")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "site" / "nplp_commands"


def made_of(folder, monkeypatch, *files):
    """Let the project's configurations be some empty files."""
    for file in files:
        (folder / "configs" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "configs" / file).touch()
    monkeypatch.setattr(configurations, "PACKED", folder)


def test_additions_to_methods_are_no_methods():
    assert {"cameras", "proxies"} <= names_of(overlays=True).keys()
    assert not {"cameras", "proxies"} & method_overlays().keys()
    assert {"cap", "nplp-plus"} <= method_overlays().keys()


def test_every_file_has_one_name_that_leads_to_it():
    # A method has its authors' recipe and its overlay under one name: the option says which is meant.
    assert sorted([*names_of().values(), *names_of(overlays=True).values()]) == sorted(
        path for path in CONFIGS.rglob("*.yml") if not path.name.startswith("Base-")
    )
    for overlays in (False, True):
        for name, path in names_of(overlays).items():
            assert find_configuration(name, overlays=overlays) == str(path)
            long = path.relative_to(CONFIGS).with_suffix("").as_posix()
            assert find_configuration(long, overlays=overlays) == str(path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("quickstart", "NPLP/quickstart.yml"),
        ("d2m", "NPLP/d2m.yml"),
        ("pku", "NPLP/real/pku.yml"),
        ("reproduce/p2s", "NPLP/reproduce/p2s.yml"),
        ("memory_quickstart", "methods/memory_quickstart.yml"),
        ("Base-NPLP", "NPLP/Base-NPLP.yml"),
        ("configs/NPLP/m2d.yml", "NPLP/m2d.yml"),
        ("configs\\NPLP\\m2d.yml", "NPLP/m2d.yml"),
        ("configs/NPLP/ablations/pap1.yml", "NPLP/ablations/pap1.yml"),
    ],
)
def test_an_installed_package_finds_names_and_the_paths_of_the_pages(installed, name, file):
    found = Path(find_configuration(name))
    assert found == installed / "configs" / file
    base = yaml.safe_load(found.read_text(encoding="utf-8")).get("_BASE_")
    assert base is None or (found.parent / base).is_file()


def test_a_file_of_the_current_folder_comes_before_a_name(installed):
    Path("configs/NPLP").mkdir(parents=True)
    for path in ("quickstart", "configs/NPLP/d2m.yml"):
        Path(path).touch()
        assert find_configuration(path) == path


@pytest.mark.parametrize("word", ["", "absent.yml", "folder", "/nowhere/d2m.yml"])
def test_other_paths_are_left_for_who_opens_them(installed, word):
    Path("folder").mkdir()
    assert find_configuration(word) == word


@pytest.mark.parametrize(
    ("word", "overlays", "said"),
    [
        (
            "quikstart",
            False,
            "--config-file 'quikstart' is neither a file nor a name: did you mean 'quickstart'?",
        ),
        ("zzz", False, "there are Base"),
        ("pap1", False, "is neither a file nor a name"),
        ("quickstart", True, "there are assessment_euclidean, averaged"),
    ],
)
def test_an_unknown_name_lists_those_there_are(word, overlays, said):
    with pytest.raises(UserError) as caught:
        find_configuration(word, overlays=overlays)
    assert said.replace("Base", "d2m") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("plus" if overlays else "quickstart-plus") in str(caught.value)


def test_a_name_of_two_files_is_refused_with_both(tmp_path, monkeypatch):
    made_of(tmp_path, monkeypatch, "NPLP/a.yml", "NPLP/x/a.yml", "NPLP/x/b.yml", "methods/b.yml")
    assert find_configuration("a") == str(tmp_path / "configs" / "NPLP" / "a.yml")
    assert sorted(names_of()) == ["a", "methods/b", "x/a", "x/b"]
    with pytest.raises(UserError, match=r"'b' is the name of NPLP/x/b, methods/b: give one of these"):
        find_configuration("b")


def test_overlays_of_every_folder_are_found_and_are_no_configurations(tmp_path, monkeypatch):
    files = (
        "NPLP/q.yml",
        "NPLP/ablations/a.yml",
        "NPLP/ablations/b.yml",
        "methods/overlays/a.yml",
        "methods/m.yml",
    )
    made_of(tmp_path, monkeypatch, *files)
    assert sorted(names_of()) == ["m", "q"]
    assert sorted(names_of(overlays=True)) == ["ablations/a", "b", "overlays/a"]


def test_without_any_configuration_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(configurations, "PACKED", tmp_path)
    monkeypatch.setattr(configurations, "CHECKOUT", tmp_path)
    with pytest.raises(UserError, match="there are no names"):
        find_configuration("quickstart")
    assert "the folder configs is missing" in train.build_parser().format_help()


@pytest.mark.parametrize(
    ("typed", "config", "opts", "gpus"),
    [
        ("quickstart", "quickstart", [], 1),
        ("quickstart SEED 1", "quickstart", ["SEED", "1"], 1),
        ("quickstart --num-gpus 2 SEED 1", "quickstart", ["SEED", "1"], 2),
        ("--num-gpus 2 quickstart SEED 1", "quickstart", ["SEED", "1"], 2),
        ("--config-file a.yml --num-gpus 2 SEED 1", "a.yml", ["SEED", "1"], 2),
        ("SEED 1", "", ["SEED", "1"], 1),
        # As before: pairs that are none are named by whoever reads them.
        ("--config-file a.yml logs/run", "a.yml", ["logs/run"], 1),
        ("quickstart SEED 1 --resume", "quickstart", ["SEED", "1", "--resume"], 1),
    ],
)
def test_a_name_may_stand_before_and_after_options(typed, config, opts, gpus):
    args = train.build_parser().parse_args(typed.split())
    assert (args.config_file, args.opts, args.num_gpus, args.overlay) == (config, opts, gpus, [])


def test_options_on_both_sides_of_a_name_are_taken():
    args = train.build_parser().parse_args(
        ["--overlay", "a", "quickstart", "--overlay", "b", "--resume", "SEED", "1"]
    )
    assert (args.overlay, args.resume, args.opts) == (["a", "b"], True, ["SEED", "1"])


def test_the_help_lists_every_name(monkeypatch):
    text = train.build_parser().format_help()
    for name in (*names_of(), *names_of(overlays=True)):
        assert name in text


def test_an_unknown_name_ends_the_command_in_one_line(nplp):
    code, shown = nplp("train", "quikstart", "SEED", "1")
    assert code == 2
    assert shown.err.startswith("nplp train: --config-file 'quikstart' is neither a file nor a name")
    assert shown.err.count("\n") == 1


def test_a_card_names_the_file_as_others_know_it(installed, monkeypatch):
    assert name_in_project(find_configuration("pku")) == "configs/NPLP/real/pku.yml"
    assert name_in_project("own.yml") == "own.yml"
    seen = {}
    monkeypatch.setattr(
        "nplp.engine.setup.load_config", lambda args: seen.setdefault("files", args.config_file)
    )
    monkeypatch.setattr("nplp.engine.setup.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr(
        "nplp.export.bundle.export_bundle", lambda _, __, options: seen.update(options=options)
    )
    args = export.build_parser().parse_args(["--config-file", "d2m", "--output", "zoo/x"])
    with pytest.raises(AttributeError):  # of what stands in for the bundle
        export.main(args)
    assert seen["files"] == str(installed / "configs" / "NPLP" / "d2m.yml")
    assert seen["options"].config_file == "configs/NPLP/d2m.yml"


def test_a_tiny_run_of_a_name_is_that_of_the_file(synthetic_root, tmp_path, monkeypatch):
    """The configuration that the processes get; the run itself is tested with the file."""
    loaded = []
    monkeypatch.setattr("nplp.distributed.processes.launch", lambda *words: loaded.append(words[5][0]))
    monkeypatch.chdir(tmp_path)
    for word in ("quickstart", str(CONFIGS / "NPLP" / "quickstart.yml")):
        train.main(train.build_parser().parse_args([word, "--overlay", "plus", "SEED", "3"]))
    from nplp.engine.setup import load_config

    named, filed = (load_config(argparse.Namespace(**vars(args))) for args in loaded)
    assert named == filed
    assert (named.SEED, named.TEST.CAMERAS) == (3, "mean")
    assert os.listdir() == []
