"""What is uploaded to the hub is a bundle, whose card begins with what the hub reads."""

import sys
import types

import pytest
import yaml

from nplp.errors import UserError
from nplp.export.hub import push_bundle, write_for_hub
from nplp.weights.zoo import read_bundle
from nplp_commands import zoo as command


def test_the_card_begins_with_metadata_and_the_sums_are_those_of_the_folder(bundle, tmp_path):
    folder = write_for_hub(bundle, tmp_path / "new" / "hub")
    written = read_bundle(folder)
    assert set(written.sums) == set(bundle.sums)
    assert {file for file in bundle.sums if written.sums[file] != bundle.sums[file]} == {"README.md"}
    empty, head, card = written.text("README.md").split("---\n", 2)
    assert (empty, card) == ("", "\n" + bundle.text("README.md"))
    metadata = yaml.safe_load(head)
    assert (metadata["license"], metadata["library_name"]) == ("apache-2.0", "nplp")
    (model,) = metadata["model-index"]
    measured = {metric["name"]: metric["value"] for metric in model["results"][0]["metrics"]}
    assert measured == bundle.results()["final"]
    assert model["results"][0]["dataset"]["name"] == "SynthStation"
    with pytest.raises(UserError, match="exists: name a folder that is new"):
        write_for_hub(bundle, folder)


@pytest.fixture
def api(monkeypatch):
    calls = []

    class Api:
        def create_repo(self, **words):
            if words["repo_id"] == "other/closed":
                raise RuntimeError("401\nUnauthorized")
            calls.append(words)

        def upload_folder(self, **words):
            calls.append(words)
            return "https://hub/owner/tiny"

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=Api))
    return calls


def test_the_command_writes_and_uploads(bundle, tmp_path, api, capsys):
    words = ["push", str(bundle.folder), "--output", str(tmp_path / "hub"), "--to", "owner/tiny", "--private"]
    assert command.main(command.build_parser().parse_args(words)) == 0
    assert api[0] == {"repo_id": "owner/tiny", "private": True, "exist_ok": True}
    assert api[1]["folder_path"] == str(tmp_path / "hub")
    assert capsys.readouterr().out.splitlines()[-1] == "https://hub/owner/tiny"


def test_without_to_nothing_is_uploaded(bundle, tmp_path, api):
    words = ["push", str(bundle.folder), "--output", str(tmp_path / "hub")]
    assert command.main(command.build_parser().parse_args(words)) == 0
    assert api == []


def test_what_the_hub_refuses_and_a_missing_library_are_one_line(tmp_path, api, monkeypatch):
    with pytest.raises(UserError, match=r"did not take the bundle \(401 Unauthorized\): log in"):
        push_bundle(tmp_path, "other/closed")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"nplp\[hub\]"):
        push_bundle(tmp_path, "owner/tiny")
