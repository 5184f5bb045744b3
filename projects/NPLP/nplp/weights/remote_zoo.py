"""Bundles that lie elsewhere: ``https://HOST/FOLDER/NAME`` and ``hf://OWNER/NAME`` of the Hugging Face hub.

A file is downloaded when it is first asked for. What was downloaded has another name until its sum has been
compared with the bundle's list; then it is kept. A download that was cut off goes on where it stopped.
Without a network the list and the files that are kept are used.
"""

import hashlib
import importlib
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from nplp.errors import UserError, in_one_line
from nplp.files import PART, sha256_of
from nplp.weights.zoo import LARGEST_TEXT, SUMS, Bundle, check_name, read_bundle

__all__ = ["HUB", "RemoteBundle", "cache_folder", "fetch_bundle", "hub_library", "is_remote"]

WEB = "https://"
LOCAL = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?/")
"""Without encryption a list of sums could be anyone's, except on this machine."""
HUB = "hf://"
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
TIMEOUT = 30.0
"""Seconds that a server may be silent."""
TRIES = 3
BLOCK = 1 << 20
TOO_FAR = 416
"""What a server answers when there is nothing behind the bytes that are there already."""

Fetch = Callable[[str, Path, int], None]
"""Brings a file of the bundle to a path, at most so many bytes; goes on with what is there."""


def is_remote(name: str) -> bool:
    """Return whether what follows ``zoo://`` is an address."""
    return name.startswith((WEB, HUB)) or LOCAL.match(name) is not None


def cache_folder() -> Path:
    """Return where downloads are kept: ``NPLP_CACHE``, else the system's folder for such files."""
    if named := os.environ.get("NPLP_CACHE"):
        return Path(named)
    system = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(system) or Path.home() / ".cache") / "nplp" / "zoo"


@dataclass(frozen=True)
class RemoteBundle(Bundle):
    """A bundle whose files come when they are asked for.

    Attributes:
        fetch: brings a file.
    """

    fetch: Fetch

    def _checked(self, file: str, largest: int) -> Path:
        path = self.folder / file
        if file in self.sums and not _is_whole(path, self.sums[file]):
            _download(path, self.sums[file], partial(self.fetch, file), largest)
        return super()._checked(file, largest)


def fetch_bundle(address: str) -> Bundle:
    """Return the bundle at an address; of its files the list of sums alone is downloaded.

    Raises:
        UserError: if there is none, or the address is none, or it cannot be reached and was not before.
    """
    name, fetch = _hub(address) if address.startswith(HUB) else _web(address)
    folder = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:16] / check_name(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{str(folder)!r} cannot be made ({error.strerror}): name another folder by NPLP_CACHE"
        ) from error
    with FileLock(folder / f"{SUMS}.lock"):
        fresh = folder / f"{SUMS}{PART}"
        fresh.unlink(missing_ok=True)
        try:
            fetch(SUMS, fresh, LARGEST_TEXT)
            os.replace(fresh, folder / SUMS)
        except (OSError, UserError) as error:
            fresh.unlink(missing_ok=True)
            if not (folder / SUMS).is_file():
                raise UserError(
                    f"{address!r} is no bundle that can be reached: no {SUMS} ({in_one_line(error)}): "
                    "compare the address, which is the bundle's folder"
                ) from error
        bundle = read_bundle(folder)
    return RemoteBundle(bundle.folder, bundle.sums, fetch)


def _is_whole(path: Path, total: str) -> bool:
    """Return whether a file is there with its sum; a link is none."""
    return path.is_file() and not path.is_symlink() and sha256_of(path) == total


def _download(path: Path, total: str, fetch: Callable[[Path, int], None], largest: int) -> None:
    """Bring a file, and give it its name when its sum is right.

    Raises:
        UserError: if it cannot be had, is too large, or has another sum.
    """
    part = path.with_name(path.name + PART)
    with FileLock(part.with_suffix(".lock")):
        # Another process may have been quicker.
        if _is_whole(path, total):
            return
        for attempt in range(TRIES):
            try:
                fetch(part, largest)
                break
            except OSError as error:
                if attempt == TRIES - 1:
                    raise UserError(
                        f"{path.name!r} of the bundle {path.parent.name!r} cannot be downloaded "
                        f"({in_one_line(error)}): try again, it goes on where it stopped"
                    ) from error
        if (found := sha256_of(part)) != total:
            part.unlink()
            raise UserError(
                f"what was downloaded as {path.name!r} of {path.parent.name!r} was removed: its SHA-256 "
                f"sum is {found[:16]}..., {SUMS} says {total[:16]}...; try again, or tell who published it"
            )
        os.replace(part, path)


def _web(address: str) -> tuple[str, Fetch]:
    """Return the name of a bundle on the web, and what brings its files.

    Raises:
        UserError: if the address is not one that a list of sums may come from.
    """
    if not address.startswith(WEB) and not LOCAL.match(address):
        raise UserError(f"{address!r} must begin with {WEB} or {HUB}")
    root = address.rstrip("/")

    def fetch(file: str, path: Path, largest: int) -> None:
        _over_http(f"{root}/{file}", path, largest)

    return urllib.parse.unquote(root.rpartition("/")[2]), fetch


def _over_http(address: str, path: Path, largest: int) -> None:
    """Download to a file, behind what it has already.

    Raises:
        UserError: if there are more bytes than ``largest``, or the server leads to an open address.
        OSError: if the server cannot be reached, says no, or ends too early.
    """
    begin = path.stat().st_size if path.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if not is_remote(answer.geturl()):
                raise UserError(f"{address!r} leads to an address without encryption: do not use the bundle")
            if begin and answer.status != 206:
                begin = 0  # It sends the whole.
            expected = answer.headers.get("Content-Length")
            with open(path, "ab" if begin else "wb") as file:
                size = begin
                while block := answer.read(BLOCK):
                    size += len(block)
                    if size > largest:
                        raise UserError(f"{address!r} has more than {largest:,} bytes: do not use the bundle")
                    file.write(block)
            if expected is not None and size - begin < int(expected):
                raise ConnectionError(f"the server ended after {size:,} bytes")
    except urllib.error.HTTPError as error:
        if error.code != TOO_FAR:
            raise
    except UserError:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def hub_library() -> Any:
    """Return the library of the Hugging Face hub.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UserError("the Hugging Face hub needs huggingface_hub: pip install 'nplp[hub]'") from error


def _hub(address: str) -> tuple[str, Fetch]:
    """Return the name of a bundle on the hub, and what brings its files.

    Raises:
        UserError: if the address is not ``hf://OWNER/NAME``, perhaps with ``@REVISION``.
    """
    match = HUB_NAME.fullmatch(address.removeprefix(HUB))
    if match is None:
        raise UserError(f"{address!r} must be {HUB}OWNER/NAME, or {HUB}OWNER/NAME@REVISION")
    repository, revision = match[1], match[2]

    def fetch(file: str, path: Path, largest: int) -> None:
        del largest  # It is looked at before the file is used.
        try:
            found = hub_library().hf_hub_download(
                repo_id=repository, filename=file, revision=revision, local_dir=path.parent / "hub"
            )
        except UserError:
            raise
        except Exception as error:
            raise ConnectionError(in_one_line(error)) from error
        os.replace(found, path)

    return repository.rpartition("/")[2], fetch
