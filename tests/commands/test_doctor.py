"""The command that looks at data: what it says, what it writes, and its exit codes."""

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from doctor_cases import picture
from nplp.data.doctor import CODES
from nplp_commands import doctor

ROOT = Path(__file__).parents[2]
FEW = {"few-images", "few-images-in-camera"}


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs the command and returns exit code, output and errors."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["nplp doctor", *map(str, words)])
        code = 0
        try:
            doctor.command_line()
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def crops(tmp_path):
    """A folder of two cameras with 3 images each."""
    folder = tmp_path / "crops"
    for number, camera in enumerate(("gate", "yard")):
        (folder / camera).mkdir(parents=True)
        for shot in range(3):
            picture(10 * number + shot).save(folder / camera / f"{shot}.jpg")
    return folder


def codes_of(out):
    return {finding["code"] for finding in json.loads(out)["findings"]}


def test_a_folder_without_errors_ends_with_0(run, crops):
    code, out, _ = run(crops, "--workers", 1)
    assert code == 0
    assert "gate" in out
    assert "0 errors, 2 warnings, 0 notes" in out
    assert all(one in out for one in FEW)


def test_errors_in_the_data_end_with_1(run, crops):
    (crops / "gate" / "torn.jpg").write_bytes(b"")
    code, out, err = run(crops)
    assert code == 1
    assert "unreadable-images" in out
    assert "gate/torn.jpg (empty file)" in " ".join(out.split())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no/such"], "is no folder, no file and no registered data set"),
        (["CROPS", "--workers", "0"], "--workers must be at least 1, got 0"),
        (
            ["CROPS", "--columns", "camera"],
            "--columns takes OURS=THEIRS, such as camera=cam_id, got 'camera'",
        ),
        (["CROPS", "--columns", "camera=a", "camera=b"], "--columns names camera twice"),
        (["CROPS", "--columns", "camera=cam"], "is a folder, which has no columns"),
        (["CROPS", "--camera-pattern", "("], "pattern"),
        (["CROPS", "--camera-pattern", "(?P<camera>nowhere)"], "matches no image"),
        (["CROPS", "--json", "MISSING/findings.json"], "choose another file for --json"),
        (["--json", "CROPS"], "required: DATA"),
        ([], "required: DATA"),
    ],
)
def test_a_mistake_is_one_line_and_2(run, crops, tmp_path, words, message):
    places = {"CROPS": str(crops), "MISSING/findings.json": str(tmp_path / "missing" / "findings.json")}
    code, out, err = run(*(places.get(word, word) for word in words))
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_json_goes_to_the_output_alone_or_to_a_file_beside_the_tables(run, crops, tmp_path):
    code, out, _ = run(crops, "--json")
    assert code == 0
    content = json.loads(out)
    path = tmp_path / "findings.json"
    _, tables, _ = run(crops, "--json", path)
    assert "0 errors" in tables
    assert json.loads(path.read_text()) == content


def keys(value):
    """Return the keys of JSON at any depth."""
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items() if key != "modes"}
    return [keys(value[-1])] if isinstance(value, list) and value else None


def test_the_keys_of_the_json_are_these(run, tmp_path):
    for split, person in (("train", 1), ("query", 2), ("gallery", 2)):
        for camera in (1, 2):
            path = tmp_path / "data" / split / f"{person:04}_c{camera}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(len(split) * 10 + camera).save(path)
    (tmp_path / "data" / "notes.txt").touch()
    content = json.loads(run(tmp_path / "data", "--json")[1])
    assert content["format"] == 1
    assert keys(content) == {
        "format": None,
        "errors": None,
        "source": None,
        "folder": None,
        "images": None,
        "decoded": None,
        "splits": [dict.fromkeys(["split", "images", "identities", "unknown", "cameras"])],
        "cameras": [dict.fromkeys(["camera", "images", "identities", "train", "query", "gallery"])],
        "identities": {"identities": None, "images": [None], "in_one_camera": None, "with_one_image": None},
        "tracks": None,
        "sizes": {"width": [None], "height": [None], "aspect": [None], "smallest": None},
        "duplicates": dict.fromkeys(["groups", "images", "near_pairs", "near_images"]),
        "left_out": [{"reason": None, "files": None, "examples": [None]}],
        "published": None,
        "findings": [{"code": None, "severity": None, "message": None, "examples": [None], "remedy": None}],
    }


@pytest.mark.parametrize("name", ["門 1", "été", "🎥", "a\x1b[2Jb", "\udcff"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_in_all_alphabets_are_shown_on_any_terminal(crops, monkeypatch, name, encoding):
    try:
        (crops / "gate").rename(crops / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such name")
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "argv", ["nplp doctor", str(crops)])
    doctor.command_line()
    output.flush()
    shown = output.buffer.getvalue()
    assert b"\x1b" not in shown
    if encoding == "utf-8" and name[0] in "門é🎥":
        assert name in shown.decode()


def test_quick_and_without_duplicates_look_at_less(run, crops):
    content = json.loads(run(crops, "--quick", "--json")[1])
    assert (content["decoded"], content["sizes"], content["duplicates"]) == (False, None, None)
    content = json.loads(run(crops, "--no-duplicates", "--json")[1])
    assert (content["decoded"], content["duplicates"]) == (True, None)
    assert content["sizes"]["width"] == [24] * 5


def test_without_faiss_the_command_says_so_before_it_looks(run, crops, monkeypatch):
    monkeypatch.setattr("nplp.data.doctor.examination.find_spec", lambda name: None)
    code, out, err = run(crops)
    assert (code, out) == (2, "")
    assert "faiss" in err
    assert run(crops, "--no-duplicates")[0] == 0


def test_help_needs_no_toolbox_and_names_every_option():
    text = doctor.build_parser().format_help()
    for option in ("--camera-pattern", "--columns", "--json", "--quick", "--no-duplicates", "--workers"):
        assert option in text
    assert "examples:" in text


def test_every_code_is_documented_with_its_severity_and_remedy():
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    for name, code in CODES.items():
        assert f"| `{name}` | {code.severity} | {code.meaning} | {code.remedy} |" in page
    assert page.count("\n| `") == len(CODES)


def nuisances(folder):
    """Make a folder with what users of the field report, all at once."""
    for camera in ("门 1", "c 12 🎥"):
        (folder / camera).mkdir(parents=True)
        for shot in range(20):
            # The same names in both cameras.
            picture(100 * len(camera) + shot).save(folder / camera / f"人 {shot:02}.jpg")
    gate, far = folder / "门 1", folder / "c 12 🎥"
    (gate / "empty.jpg").touch()
    (gate / "text.png").write_text("no image")
    whole = (gate / "人 00.jpg").read_bytes()
    (gate / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("I;16", (24, 60), 3000).save(gate / "deep.png")
    (far / "copy.jpg").write_bytes(whole)
    Image.open(gate / "人 01.jpg").save(gate / "again.png")
    Image.new("RGB", (24, 60)).save(far / "black.png")
    picture(901, (300, 100)).save(far / "frame.png")
    picture(902, (10, 20)).save(far / "tiny.png")
    picture(903).convert("RGBA").save(far / "cut out.png")
    (folder / "Thumbs.db").touch()
    (folder / ".hidden.jpg").touch()
    picture(904).save(folder / "beside the cameras.jpg")
    (folder / "lonely").mkdir()
    picture(905).save(folder / "lonely" / "one.jpg")


def test_a_folder_of_all_nuisances_at_once(run, tmp_path):
    nuisances(tmp_path / "crops")
    code, out, _ = run(tmp_path / "crops", "--json")
    content = json.loads(out)
    assert code == 1
    assert content["errors"] is True
    found = {one["code"]: one for one in content["findings"]}
    assert set(found) == {
        "unreadable-images",
        "ignored-images",
        "ignored-files",
        "few-images",
        "few-images-in-camera",
        "duplicates-in-two-cameras",
        "duplicates",
        "blank-images",
        "small-images",
        "unusual-shapes",
        "mixed-modes",
    }
    assert found["unreadable-images"]["message"].startswith("4 of 51 images cannot be read")
    assert found["few-images-in-camera"]["examples"] == ["camera lonely: 1"]
    assert {one["camera"]: one["images"] for one in content["cameras"]} == {
        "c 12 🎥": 25,
        "lonely": 1,
        "门 1": 25,
    }
    assert content["duplicates"] == {"groups": 2, "images": 4, "near_pairs": 0, "near_images": 0}


def test_a_table_with_other_columns_and_files_that_are_not_there(run, crops, tmp_path):
    lines = ["file,cam,who,split"]
    for number, split in enumerate(("train", "query", "gallery")):
        lines += [
            f"crops/{camera}/{number}.jpg,{camera},p{number > 0},{split}" for camera in ("gate", "yard")
        ]
    lines.append("crops/gate/gone.jpg,gate,p0,train")
    table = tmp_path / "crops.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ("--columns", "path=file", "camera=cam", "identity=who", "--json")
    code, out, _ = run(table, *words)
    assert code == 1
    assert codes_of(out) == {*FEW, "missing-files", "one-identity"}
    table.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    code, out, _ = run(table, *words)
    assert code == 0
    assert codes_of(out) == {*FEW, "one-identity"}


def test_a_registered_set_is_looked_at_by_its_name(run, tmp_path, monkeypatch):
    folder = tmp_path / "Market-1501-v15.09.15"
    for subset, person in (("bounding_box_train", 2), ("query", 3), ("bounding_box_test", 3)):
        (folder / subset).mkdir(parents=True)
        for camera in (1, 12):
            picture(100 * len(subset) + camera).save(folder / subset / f"{person:04}_c{camera}s1_0.jpg")
    picture(1).save(folder / "bounding_box_train" / "holiday.jpg")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    code, out, _ = run("Market1501")
    assert code == 0
    assert "12,936, 751, 6" in out
    assert "market1501_11" in out
    assert "holiday.jpg" in out
