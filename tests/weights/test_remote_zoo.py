"""Bundles on a server of this machine and on a made-up hub: sums, cut downloads, caching, no network."""

import functools
import http.server
import sys
import threading
import types
from pathlib import Path

import pytest

from nplp.errors import UserError
from nplp.weights import remote_zoo
from nplp.weights.remote_zoo import cache_folder, fetch_bundle
from nplp.weights.zoo import find_bundle, resolve_weights, write_sums

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, whole or from a byte on, and may end too early."""

    asked: list
    cut: dict

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        begin = self.headers.get("Range")
        self.asked.append((name, begin))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        first = int(begin.removeprefix("bytes=").rstrip("-")) if begin else 0
        if begin and first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : self.cut.pop(name, None)])

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A bundle's folder on a server, with its address, what it was asked for, and a way to end it."""
    folder = tmp_path / "models" / "tiny_R18"
    folder.mkdir(parents=True)
    (folder / "model.pth").write_bytes(CONTENT)
    (folder / "README.md").write_text("# tiny")
    write_sums(folder)
    handler = type("Own", (Handler,), {"asked": [], "cut": {}})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(tmp_path / "models"))
    )
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("NPLP_CACHE", str(tmp_path / "cache"))
    ended = []

    def end():
        if not ended:
            ended.append(True)
            server.shutdown()
            server.server_close()

    yield types.SimpleNamespace(
        folder=folder,
        address=f"http://127.0.0.1:{server.server_port}/tiny_R18",
        asked=handler.asked,
        cut=handler.cut,
        end=end,
    )
    end()


def test_weights_are_downloaded_once_and_other_files_when_they_are_asked_for(served):
    path = Path(resolve_weights(f"zoo://{served.address}"))
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache_folder())
    assert [name for name, _ in served.asked] == ["SHA256SUMS", "model.pth"]
    assert resolve_weights(f"zoo://{served.address}/") != ""
    bundle = find_bundle(served.address)
    assert bundle.name == "tiny_R18"
    assert bundle.text("README.md") == "# tiny"
    assert [name for name, _ in served.asked].count(
        "model.pth"
    ) == 2  # The other address with its own folder.


def test_without_a_network_what_is_kept_is_used(served):
    address = f"zoo://{served.address}"
    path = resolve_weights(address)
    served.end()
    assert resolve_weights(address) == path
    with pytest.raises(UserError, match=r"'README.md' of the bundle 'tiny_R18' cannot be downloaded"):
        fetch_bundle(served.address).text("README.md")


def test_a_download_that_was_cut_goes_on_where_it_stopped(served, monkeypatch):
    monkeypatch.setattr(remote_zoo, "TRIES", 1)
    served.cut["model.pth"] = 1000
    with pytest.raises(UserError, match="it goes on where it stopped") as caught:
        resolve_weights(f"zoo://{served.address}")
    assert "\n" not in str(caught.value)
    assert Path(resolve_weights(f"zoo://{served.address}")).read_bytes() == CONTENT
    assert [begin for name, begin in served.asked if name == "model.pth"] == [None, "bytes=1000-"]


def test_a_connection_that_breaks_is_tried_again(served):
    served.cut["model.pth"] = 777
    assert Path(resolve_weights(f"zoo://{served.address}")).read_bytes() == CONTENT


def test_altered_files_are_removed_before_a_byte_is_used(served):
    (served.folder / "model.pth").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(UserError, match="was removed: its SHA-256 sum is") as caught:
        resolve_weights(f"zoo://{served.address}")
    assert "\n" not in str(caught.value)
    left = {path.name for path in cache_folder().rglob("*") if path.is_file()}
    assert "SHA256SUMS" in left
    assert not {"model.pth", "model.pth.part"} & left


def test_a_kept_file_that_was_altered_is_downloaded_again(served):
    path = Path(resolve_weights(f"zoo://{served.address}"))
    path.write_bytes(b"altered")
    assert Path(resolve_weights(f"zoo://{served.address}")).read_bytes() == CONTENT


def test_a_new_version_of_a_bundle_replaces_what_is_kept(served):
    resolve_weights(f"zoo://{served.address}")
    (served.folder / "model.pth").write_bytes(CONTENT * 2)
    write_sums(served.folder)
    assert Path(resolve_weights(f"zoo://{served.address}")).read_bytes() == CONTENT * 2


def test_a_file_that_never_ends_is_given_up(served, monkeypatch):
    monkeypatch.setattr("nplp.weights.zoo.LARGEST", 5000)
    with pytest.raises(UserError, match="has more than 5,000 bytes"):
        resolve_weights(f"zoo://{served.address}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("http://example.org/tiny", "the zoo has no bundle"),
        ("hf://tiny", "must be hf://OWNER/NAME"),
        ("hf://a/../b", "must be hf://OWNER/NAME"),
        ("https://", "a bundle's name may have letters"),
    ],
)
def test_other_addresses_are_refused_before_anything_is_asked_for(name, said, tmp_path, monkeypatch):
    monkeypatch.setenv("NPLP_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=said):
        find_bundle(name)


def test_no_bundle_at_an_address_is_one_line(served):
    with pytest.raises(UserError, match="is no bundle that can be reached: no SHA256SUMS .*404") as caught:
        find_bundle(f"{served.address}_absent")
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(served, monkeypatch):
    """A library of the hub that has one model."""
    calls = []

    def hf_hub_download(repo_id, filename, revision, local_dir):
        calls.append((repo_id, filename, revision))
        if repo_id != "owner/tiny_R18":
            raise RuntimeError("404\nnot found")
        Path(local_dir).mkdir(exist_ok=True)
        (Path(local_dir) / filename).write_bytes((served.folder / filename).read_bytes())
        return str(Path(local_dir) / filename)

    library = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    return calls


def test_the_hub_gives_a_bundle_of_a_revision(hub):
    assert Path(resolve_weights("zoo://hf://owner/tiny_R18@v1")).read_bytes() == CONTENT
    assert hub == [("owner/tiny_R18", file, "v1") for file in ("SHA256SUMS", "model.pth")]
    with pytest.raises(UserError, match="is no bundle that can be reached"):
        find_bundle("hf://owner/absent")


def test_without_the_hubs_library_the_extra_is_named(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"nplp\[hub\]"):
        find_bundle("hf://owner/tiny_R18")
