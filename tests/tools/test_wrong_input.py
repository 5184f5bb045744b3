"""Wrong input of every kind to every tool: one line, exit code 2, no traceback, nothing half-written."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nplp_commands.cluster import main as cluster
from tiny import tiny_options

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "NPLP" / "quickstart.yml")


class Intruder:
    """Unpickling this makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("intruded",)


def write_bad_files():
    """Write the files that mistakes name into the current folder."""
    Path("torn.yml").write_text("MODEL: [1, 2")
    Path("latin.yml").write_bytes("OUTPUT_DIR: caf\xe9".encode("latin-1"))
    Path("orphan.yml").write_text("_BASE_: nowhere.yml\n")
    Path("circle.yml").write_text("_BASE_: circle.yml\n")
    Path("list.yml").write_text("- 1\n- 2\n")
    Path("key.yml").write_text(f"_BASE_: {CONFIG}\nNPLP: {{ALFA: 1}}\n")
    Path("noise.pth").write_bytes(b"\x80\x04 not weights")
    Path("empty.pth").write_bytes(b"")
    Path("file").write_text("a file")
    Path("folder").mkdir()
    torch.save({"model": {"heads.unknown": torch.zeros(2)}}, "other.pth")
    torch.save([1, 2], "list.pth")
    torch.save({"model": Intruder()}, "code.pth")
    torch.save(Intruder(), "code.pt")
    np.save("code.npy", np.array([Intruder()]), allow_pickle=True)
    np.savez("code.npz", features=np.array([Intruder()]))
    np.save("flat.npy", np.zeros(5, np.float32))
    np.save("features.npy", np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))
    np.save("nan.npy", np.full((30, 4), np.nan, np.float32))
    np.save("short.npy", np.zeros(29, int))


# The words after --config-file quickstart.yml and the options of a tiny run, and what the line names.
TRAINING = {
    "unknown key": ("NPLP.ALFA 1", "NPLP.ALFA"),
    "odd pairs": ("NPLP.ALPHA", "KEY VALUE"),
    "text for a number": ("NPLP.ITERATIONS many", "NPLP.ITERATIONS"),
    "alpha out of range": ("NPLP.ALPHA 1.2", "NPLP.ALPHA must be in (0, 1]"),
    "alpha not a number": ("NPLP.ALPHA nan", "NPLP.ALPHA"),
    "beta 0": ("NPLP.BETA 0.0", "NPLP.BETA"),
    "no noisy cluster": ("NPLP.NOISY_FRACTION 0.0", "NPLP.NOISY_FRACTION"),
    "min_samples 0": ("NPLP.MIN_SAMPLES 0", "NPLP.MIN_SAMPLES"),
    "unknown distance": ("NPLP.DISTANCE cosine", "NPLP.DISTANCE"),
    "unknown dissolved": ("NPLP.DISSOLVED lose", "NPLP.DISSOLVED"),
    "k2 above k1": ("NPLP.K2 30", "NPLP.K2"),
    "unknown rule's action": ("NPLP.RULES.GIANT_CLUSTER ignore", "NPLP.RULES.GIANT_CLUSTER"),
    "a giant of nothing": ("NPLP.RULES.GIANT_SHARE 0.0", "NPLP.RULES.GIANT_SHARE"),
    "negative iterations": ("NPLP.ITERATIONS -1", "NPLP.ITERATIONS"),
    "no epochs": ("NPLP.EPOCHS_PER_ITERATION 0", "NPLP.EPOCHS_PER_ITERATION"),
    "no epochs of pre-training": ("NPLP.SOURCE.MAX_EPOCH 0", "NPLP.SOURCE.MAX_EPOCH"),
    "temperature 0": ("MODEL.LOSSES.CC.TEMPERATURE 0.0", "MODEL.LOSSES.CC.TEMPERATURE"),
    "unknown reduction": ("MODEL.LOSSES.TRI.REDUCTION max", "MODEL.LOSSES.TRI.REDUCTION"),
    "unknown fusion": ("MODEL.HEADS.FUSION sum", "MODEL.HEADS.FUSION"),
    "negative seed": ("SEED -1", "SEED"),
    "negative workers": ("DATALOADER.NUM_WORKERS -1", "DATALOADER.NUM_WORKERS"),
    "a batch of no whole identities": ("SOLVER.IMS_PER_BATCH 15", "SOLVER.IMS_PER_BATCH"),
    "an empty test batch": ("TEST.IMS_PER_BATCH 0", "TEST.IMS_PER_BATCH"),
    "images without height": ("INPUT.SIZE_TRAIN [0,16]", "INPUT.SIZE_TRAIN"),
    "negative learning rate": ("SOLVER.BASE_LR -1.0", "SOLVER.BASE_LR"),
    "no such device": ("MODEL.DEVICE tpu", "MODEL.DEVICE"),
    "text for a number of processes": ("--num-gpus two", "--num-gpus"),
    "no processes": ("--num-gpus 0", "--num-gpus"),
    "machines that cannot meet": ("--num-machines 2", "dist_url"),
    "a machine beyond the last": ("--machine-rank 5", "--machine-rank"),
    "unknown argument": ("--sources x", "--sources"),
    "unknown data set": ("DATASETS.TESTS ('Nowhere',)", "Nowhere"),
    "a data set that is not there": ("DATASETS.NAMES ('Market1501',)", "FASTREID_DATASETS"),
    "a target without images": ("DATASETS.NAMES ()", "DATASETS.NAMES"),
    "a number for a data set": ("DATASETS.TESTS 5", 'DATASETS.TESTS "[5]"'),
    "a bare name that is unknown": ("DATASETS.TESTS Nowhere", "unknown data set 'Nowhere'"),
    "nothing to evaluate on": ("--eval-only DATASETS.TESTS ()", "DATASETS.TESTS names no data set"),
    "one camera": ("DATASETS.SYNTHETIC.CAMERAS 1", "cameras"),
    "unwritable output": ("OUTPUT_DIR /proc/nplp", "OUTPUT_DIR"),
    "output is a file": ("OUTPUT_DIR file", "OUTPUT_DIR"),
    "missing weights": ("--eval-only MODEL.WEIGHTS no.pth", "no.pth"),
    "weights of noise": ("--eval-only MODEL.WEIGHTS noise.pth", "noise.pth"),
    "empty weights": ("--eval-only MODEL.WEIGHTS empty.pth", "empty.pth"),
    "a list for weights": ("--eval-only MODEL.WEIGHTS list.pth", "list.pth"),
    "a folder for weights": ("--eval-only MODEL.WEIGHTS folder", "folder"),
    "weights of another model": ("--eval-only MODEL.WEIGHTS other.pth", "does not fit"),
    "weights that run code": ("--eval-only MODEL.WEIGHTS code.pth", "code.pth"),
    "a source model that runs code": ("NPLP.SOURCE.WEIGHTS code.pth", "code.pth"),
    "a backbone that runs code": (
        "MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH code.pth",
        "code.pth",
    ),
    "missing source model": ("NPLP.SOURCE.WEIGHTS no.pth", "no.pth"),
    "missing backbone weights": (
        "MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH no.pth",
        "PRETRAIN_PATH",
    ),
    "backbone weights of which nothing fits": (
        "MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH other.pth",
        "MODEL.BACKBONE.PRETRAIN_PATH: ",
    ),
    "unknown backbone": ("MODEL.BACKBONE.NAME build_nothing", "build_nothing"),
    "unknown depth": ("MODEL.BACKBONE.DEPTH 19x", "19x"),
    "wrong feature width": ("MODEL.BACKBONE.FEAT_DIM 2048", "FEAT_DIM"),
    "more stripes than rows": ("MODEL.HEADS.PAP 9", "MODEL.HEADS.PAP"),
    "unknown meta-architecture": ("MODEL.META_ARCHITECTURE NPLQ", "NPLQ"),
    "unknown head": ("MODEL.HEADS.NAME Foot", "Foot"),
    "unknown loss": ("MODEL.LOSSES.NAME ('Hinge',)", "Hinge"),
    "unknown optimiser": ("SOLVER.OPT Adamm", "Adamm"),
    "unknown sampler": ("DATALOADER.SAMPLER_TRAIN Foo", "Foo"),
    "unknown metric": ("TEST.METRIC manhattan", "TEST.METRIC"),
    "an overlay that is not there": ("--overlay nowhere.yml", "--overlay 'nowhere.yml' does not exist"),
    "an overlay that is torn": ("--overlay torn.yml", "--overlay 'torn.yml' is not YAML"),
}
CONFIG_FILES = {
    "missing": ("nowhere.yml", "nowhere.yml"),
    "a folder": (str(ROOT), str(ROOT)),
    "torn": ("torn.yml", "torn.yml"),
    "of another encoding": ("latin.yml", "latin.yml"),
    "on a base that is missing": ("orphan.yml", "orphan.yml"),
    "its own base": ("circle.yml", "circle.yml"),
    "a list": ("list.yml", "list.yml"),
    "with an unknown key": ("key.yml", "ALFA"),
}
DRAWING = {
    "unknown domain": ("--domain mall", "invalid choice: 'mall'"),
    "size without width": ("--size 128", "must be HEIGHTxWIDTH, such as 128x64, got '128'"),
    "narrow size": ("--size 128x8", "image_size width must be an integer in [32, 1024], got 8"),
    "one camera": ("--cameras 1", "cameras must be an integer in [2, 99], got 1"),
    "text for cameras": ("--cameras two", "invalid int value: 'two'"),
    "nobody": ("--identities 0", "train_identities must be an integer in [1, 99999], got 0"),
    "two images": ("--images-per-identity 2", "images_per_identity must be an integer in [4, 1000], got 2"),
    "negative seed": ("--seed -1", "seed must be an integer in [0, 4294967295], got -1"),
    "too difficult": ("--difficulty 50", "difficulty 50 takes a setting out of its range"),
    "no workers": ("--workers 0", "--workers must be at least 1, got 0"),
    "a sheet without a file": ("--sheet-only", "--sheet-only needs --sheet FILE.png"),
    "a sheet of an unknown kind": ("--sheet-only --sheet look.unknown", "cannot write the contact sheet"),
    "unknown argument": ("--colour red", "unrecognized arguments"),
    "output is a file": ("--identities 2 --cameras 2 --output file", "cannot write the synthetic domain to"),
}
CLUSTERING = {
    "missing file": ("no.npy", "no.npy"),
    "a folder": ("folder", "folder"),
    "flat features": ("flat.npy", "flat.npy"),
    "features that are not numbers": ("nan.npy", "NaN"),
    "features that run code": ("code.npy", "code.npy"),
    "an archive that runs code": ("code.npz", "code.npz"),
    "tensors that run code": ("code.pt", "code.pt"),
    "too few cameras": ("features.npy --cameras short.npy", "short.npy"),
    "alpha out of range": ("features.npy --alpha 2", "alpha"),
    "a giant of nothing": ("features.npy --giant-share 0", "giant_share"),
    "unknown order": ("features.npy --equal-scores first", "equal_scores"),
    "unknown argument": ("features.npy --colour red", "--colour"),
}
# The words after the configuration's file, the options of a tiny run and --output.
EXPORT = {
    "nothing trained": ("", "model_final.pth"),
    "weights that are not there": ("MODEL.WEIGHTS no.pth", "no.pth"),
    "weights that run code": ("MODEL.WEIGHTS code.pth", "code.pth"),
    "weights of another model": ("MODEL.WEIGHTS other.pth", "does not fit"),
    "a name the zoo has not": ("MODEL.WEIGHTS zoo://nothing", "the zoo has no bundle 'nothing'"),
    "an output that is a file": ("--output file", "is a file"),
    "an output with other things": ("--output ..", "is not empty"),
    "an output that cannot be": ("--output /proc/nplp MODEL.WEIGHTS none.pth", "none.pth"),
    "a name with spaces": ("--output a%20b", "a bundle's name"),
    "an unknown format": ("--formats caffe", "invalid choice: 'caffe'"),
    "an unknown key": ("NPLP.ALFA 1", "NPLP.ALFA"),
    "odd pairs": ("NPLP.ALPHA", "KEY VALUE"),
    "a zoo's model for a backbone": ("MODEL.BACKBONE.PRETRAIN_PATH zoo://x", "NPLP.SOURCE.WEIGHTS"),
}
ZOO = {
    "no action": ("", "list|info|verify"),
    "an unknown action": ("sell", "invalid choice"),
    "a zoo that is not there": ("list", "does not exist"),
    "a folder without bundles": ("list folder", "holds no bundle"),
    "a file for a folder": ("verify file", "does not exist"),
    "an unknown bundle": ("info nothing", "has no bundle 'nothing'"),
    "info of nothing": ("info", "where"),
    "a negative tolerance": ("verify folder --tolerance -1", "--tolerance must be at least 0"),
    "text for a tolerance": ("verify folder --tolerance much", "invalid float value"),
}
REPRODUCE = {
    "nothing named": ("", "no experiment was named"),
    "an unknown experiment": ("table9", "unknown experiment 'table9'"),
    "an unknown domain": ("table1 --domain drawn", "invalid choice: 'drawn'"),
    "no jobs": ("table1 --jobs 0", "--jobs must be at least 1, got 0"),
    "no threads": ("table1 --threads 0", "--threads must be at least 1, got 0"),
    "a negative seed": ("table1 --seeds -1", "seeds"),
    "text for a seed": ("table1 --seeds one", "invalid int value: 'one'"),
}
REPORT = {
    "no folder": ("", "OUTPUT_DIR"),
    "a folder that is not there": ("nowhere", "does not exist"),
    "a folder without a run": ("folder", "neither results.json nor pseudo_labels.jsonl"),
    "a file": ("file", "does not exist"),
    "an unknown argument": ("folder --colour red", "--colour"),
    "a folder without a run, watched": ("folder --watch", "neither results.json"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder with bad files, as the current one; whatever else appears in it was written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("NPLP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NPLP_ZOO", raising=False)
    write_bad_files()
    before = {path.name for path in tmp_path.iterdir()}
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} == before


def assert_one_line(code, shown, named):
    assert code == 2, shown
    last = shown.err.strip().splitlines()[-1]
    assert named in last
    assert "Traceback" not in shown.err + shown.out


@pytest.mark.parametrize("mistake", TRAINING)
def test_training(load_tool, call_tool, synthetic_root, folder, mistake):
    words, named = TRAINING[mistake]
    given = words.split()
    options = tiny_options(synthetic_root, folder / "run", narrow=False)
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    flags = [] if not given[0].startswith("--") else given[: 1 if given[0] == "--eval-only" else 2]
    rest = given[len(flags) :]
    kept = [word for key, value in pairs.items() if key not in rest for word in (key, value)]
    code, shown = call_tool(load_tool("train_net"), ["--config-file", CONFIG, *flags, *kept, *rest])
    assert_one_line(code, shown, named)


@pytest.mark.parametrize("mistake", CONFIG_FILES)
def test_configuration_files(load_tool, call_tool, folder, mistake):
    path, named = CONFIG_FILES[mistake]
    words = ["--config-file", path, "OUTPUT_DIR", str(folder / "run")]
    code, shown = call_tool(load_tool("train_net"), words)
    assert_one_line(code, shown, named)


def test_no_configuration_file(load_tool, call_tool):
    code, shown = call_tool(load_tool("train_net"), [])
    assert_one_line(code, shown, "--config-file")


@pytest.mark.parametrize("mistake", DRAWING)
def test_drawing(load_tool, call_tool, mistake):
    words, named = DRAWING[mistake]
    code, shown = call_tool(load_tool("make_synthetic"), words.split())
    assert_one_line(code, shown, named)
    assert shown.out == ""
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("mistake", CLUSTERING)
def test_clustering(capsys, mistake):
    words, named = CLUSTERING[mistake]
    try:
        code = cluster([*words.split(), "--out", "labels.npz"])
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr()
    assert_one_line(code, shown, named)
    assert shown.err.count("\n") == 1
    assert "labels.npz" not in os.listdir()


@pytest.mark.parametrize("mistake", EXPORT)
def test_exporting(load_tool, call_tool, synthetic_root, folder, mistake):
    words, named = EXPORT[mistake]
    given = [word.replace("%20", " ") for word in words.split()]
    output = [] if "--output" in given else ["--output", "run/bundle"]
    flags = given[: 2 if given and given[0].startswith("--") else 0]
    pairs = [*tiny_options(synthetic_root, folder / "run"), *given[len(flags) :]]
    arguments = ["--config-file", CONFIG, *output, *flags, "--", *pairs]
    code, shown = call_tool(load_tool("export_model_zoo"), arguments)
    assert_one_line(code, shown, named)
    assert shown.err.strip().count("\n") == 0


@pytest.mark.parametrize("mistake", ZOO)
def test_the_zoo(load_tool, call_tool, mistake):
    words, named = ZOO[mistake]
    code, shown = call_tool(load_tool("model_zoo"), words.split())
    assert_one_line(code, shown, named)
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("mistake", REPRODUCE)
def test_reproducing(load_tool, call_tool, mistake):
    words, named = REPRODUCE[mistake]
    code, shown = call_tool(load_tool("reproduce"), words.split())
    assert_one_line(code, shown, named)
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("mistake", REPORT)
def test_the_page(load_tool, call_tool, folder, mistake):
    words, named = REPORT[mistake]
    code, shown = call_tool(load_tool("report"), words.split())
    assert_one_line(code, shown, named)
    assert shown.err.count("\n") == 1
    assert list((folder / "folder").iterdir()) == []


def test_a_checkpoint_that_runs_code_is_refused(load_tool, call_tool, synthetic_root, folder):
    from nplp.files import save_atomically

    (folder / "run").mkdir()
    save_atomically({"model": Intruder()}, folder / "run" / "epoch_0001_step_000000.pth", summed=True)
    words = [*tiny_options(synthetic_root, folder / "run"), "NPLP.SOURCE.WEIGHTS", "other.pth"]
    code, shown = call_tool(load_tool("train_net"), ["--config-file", CONFIG, "--resume", *words])
    assert_one_line(code, shown, "cannot be read as weights")
    shutil.rmtree(folder / "run")
    assert not (folder / "intruded").exists()
