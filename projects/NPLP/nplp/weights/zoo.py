"""Where the bundles of the model zoo are, and whether they are what they were when they were written.

A bundle is a folder; its name is the model's. ``zoo://NAME`` stands for its weights wherever weights are
named; ``zoo://https://HOST/FOLDER/NAME`` and ``zoo://hf://OWNER/NAME`` for those of a bundle elsewhere.
``SHA256SUMS`` lists its other files in the form that ``sha256sum --check`` reads.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nplp.errors import UserError
from nplp.files import read_json, read_text, sha256_of, write_atomically
from nplp.metric_names import METRICS

__all__ = [
    "CARD",
    "CONFIG",
    "RESULTS",
    "SAFETENSORS",
    "SUMS",
    "WEIGHTS",
    "ZOO_PREFIX",
    "Bundle",
    "bundles_in",
    "check_name",
    "find_bundle",
    "read_bundle",
    "resolve_weights",
    "write_sums",
    "zoo_folder",
]

ZOO_PREFIX = "zoo://"
WEIGHTS = "model.pth"
SAFETENSORS = "model.safetensors"
CONFIG = "config.yaml"
RESULTS = "results.json"
CARD = "README.md"
SUMS = "SHA256SUMS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SUM_LINE = re.compile(rf"([0-9a-f]{{64}})  ({NAME.pattern})")
EXPORT_AGAIN = "export the bundle again"
LARGEST_TEXT = 2**20
LARGEST = 2**33
"""Bytes of a file of text, and of any other: more is no model of this field."""


@dataclass(frozen=True)
class Bundle:
    """A folder of the zoo.

    Attributes:
        folder: where it is.
        sums: the SHA-256 sum that each of its files should have, by the file's name.
    """

    folder: Path
    sums: dict[str, str]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.folder.resolve().name

    def path(self, file: str) -> Path:
        """Return the path of one of its files, whose sum has been compared.

        Raises:
            UserError: if it is not listed, missing, altered, a link or something else than a file, or far
                too large.
        """
        return self._checked(file, LARGEST)

    def _checked(self, file: str, largest: int) -> Path:
        if file not in self.sums:
            raise UserError(f"{str(self.folder)!r} has no {file}: its {SUMS} lists {', '.join(self.sums)}")
        path = self.folder / file
        try:
            _check_plain(path, largest)
            total = sha256_of(path)
        except OSError as error:
            raise UserError(
                f"{str(path)!r} cannot be read ({error.strerror}): export or download the bundle again"
            ) from error
        if total != self.sums[file]:
            raise UserError(
                f"{str(path)!r} was altered: its SHA-256 sum is {total[:16]}..., {SUMS} says "
                f"{self.sums[file][:16]}...; export or download the bundle again"
            )
        return path

    def text(self, file: str) -> str:
        """Return the content of one of its files of text.

        Raises:
            UserError: as :meth:`path`, or if it is not text.
        """
        return read_text(self._checked(file, LARGEST_TEXT), EXPORT_AGAIN)

    def results(self) -> dict[str, Any]:
        """Return the content of ``results.json``.

        ``final`` has the metrics of a run's records in percent; ``programs`` holds a dictionary a
        format. Either may be missing.

        Raises:
            UserError: as :meth:`text`, or if it says something else.
        """
        path = self._checked(RESULTS, LARGEST_TEXT)
        content = read_json(path, EXPORT_AGAIN)
        if fault := _fault_of_results(content):
            raise UserError(f"{str(path)!r} is no record of results ({fault}): {EXPORT_AGAIN}")
        return content


def _check_plain(path: Path, largest: int) -> None:
    """Look at what a path is before it is opened: a pipe or a device would never end.

    Raises:
        UserError: if it is a link, something else than a file, or too large.
        OSError: if it is not there.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "no file"
        raise UserError(f"{str(path)!r} is {kind}, and a bundle holds files alone: copy it with cp -L")
    if status.st_size > largest:
        raise UserError(
            f"{str(path)!r} has {status.st_size:,} bytes, of at most {largest:,}: do not use the bundle"
        )


def _fault_of_results(content: dict[str, Any]) -> str:
    """Return what is wrong with a record of results, in a few words; empty when it is one."""
    final, programs = content.get("final"), content.get("programs", {})
    if final is not None:
        if not isinstance(final, dict):
            return f"final is a {type(final).__name__}"
        for metric in METRICS:
            if not _is_number(final.get(metric)):
                return f"final has {metric} {final.get(metric)!r:.20}"
    if not isinstance(programs, dict) or not all(isinstance(program, dict) for program in programs.values()):
        return "programs are not dictionaries"
    for name, program in programs.items():
        if not _is_number(program.get("cosine", 1.0)):
            return f"{name!r:.20} has cosine {program['cosine']!r:.20}"
    return ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e9 <= value <= 1e9


def zoo_folder() -> Path:
    """Return the folder that holds the bundles: ``NPLP_ZOO`` from the environment, else ``zoo``."""
    return Path(os.environ.get("NPLP_ZOO") or "zoo")


def check_name(name: str) -> str:
    """Return a bundle's name if it can be one.

    Raises:
        UserError: if it has other characters than letters, digits, dots, hyphens and underscores.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"a bundle's name may have letters, digits, '.', '_' and '-' and begins with one of the first "
            f"two, got {name!r}: name another folder"
        )
    return name


def read_bundle(folder: Path) -> Bundle:
    """Return the bundle in a folder, of whose files none has been read yet.

    Raises:
        UserError: if there is none, or its list of sums is damaged.
    """
    try:
        _check_plain(folder / SUMS, LARGEST_TEXT)
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{str(folder)!r} is not a bundle, as {SUMS} cannot be read there: name a folder that "
            "tools/export_model_zoo.py wrote"
        ) from error
    matches = [SUM_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match}
    if len(sums) != len(lines) or not sums:
        raise UserError(f"{str(folder / SUMS)!r} is damaged: export or download the bundle again")
    return Bundle(folder, sums)


def bundles_in(folder: Path) -> list[Bundle]:
    """Return the bundles in a folder in the order of their names; the folder may be a bundle itself.

    Raises:
        UserError: if there is none, or a list of sums is damaged.
    """
    folders = [path.parent for path in sorted(folder.glob(f"*/{SUMS}"))]
    if (folder / SUMS).is_file():
        folders = [folder]
    if not folders:
        state = "holds no bundle" if folder.is_dir() else "does not exist"
        raise UserError(f"{str(folder)!r} {state}: tools/export_model_zoo.py writes one, make zoo two")
    return [read_bundle(path) for path in folders]


def find_bundle(name: str) -> Bundle:
    """Return the bundle of a name in the zoo's folder, or at the address that the name is.

    Raises:
        UserError: if there is no such bundle, naming those that there are; or it cannot be downloaded.
    """
    from nplp.weights.remote_zoo import fetch_bundle, is_remote

    if is_remote(name):
        return fetch_bundle(name)
    zoo = zoo_folder()
    if not NAME.fullmatch(name) or not (zoo / name / SUMS).is_file():
        known = ", ".join(path.parent.name for path in sorted(zoo.glob(f"*/{SUMS}"))) or "none"
        raise UserError(
            f"the zoo has no bundle {name!r}: looked in {str(zoo)!r}, which NPLP_ZOO sets; it has {known}"
        )
    return read_bundle(zoo / name)


def resolve_weights(path: str) -> str:
    """Return the file that ``zoo://NAME`` stands for, whose sum has been compared; other paths as they are.

    Raises:
        UserError: if there is no such bundle, or its weights are missing or altered.
    """
    if not path.startswith(ZOO_PREFIX):
        return path
    return str(find_bundle(path.removeprefix(ZOO_PREFIX)).path(WEIGHTS))


def write_sums(folder: Path) -> Bundle:
    """Write the list of sums of all files in a folder, and return the bundle that it makes.

    Raises:
        UserError: if it cannot be written.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    sums = {path.name: sha256_of(path) for path in files}
    write_atomically(folder / SUMS, "".join(f"{total}  {name}\n" for name, total in sums.items()))
    return Bundle(folder, sums)
