"""The configurations that come with the project, by name.

People edit them in ``configs`` of a checkout; a build copies that folder into this package, so that an
installed one has them too. Nothing of the library is imported, so that a help can list them.
"""

import difflib
import textwrap
from pathlib import Path, PurePosixPath, PureWindowsPath

__all__ = [
    "configurations_root",
    "find_configuration",
    "list_of_names",
    "method_overlays",
    "name_in_project",
    "names_of",
]

FOLDER = "configs"
PACKED = Path(__file__).resolve().parent
"""Where a build puts the folder."""
CHECKOUT = Path(__file__).resolve().parents[3]
METHODS = "methods/overlays"
ADDITIONS = ("cameras", "proxies")
"""Overlays beside those of the methods that go over one of them."""
OVERLAYS = ("NPLP/ablations", METHODS)
"""Folders whose files are merged over a configuration and are none by themselves."""
PREFERRED = "NPLP"
BASE = "Base-"
"""How the names of files begin that others inherit from; they have names, but no list shows them."""


def configurations_root() -> Path | None:
    """Return the folder that holds ``configs``, this package or the checkout; None where there is none."""
    return next((root for root in (PACKED, CHECKOUT) if (root / FOLDER / PREFERRED).is_dir()), None)


def _files(overlays: bool) -> dict[str, Path]:
    """Return the overlays, or all other configurations, by their place below ``configs`` without suffix."""
    root = configurations_root()
    if root is None:
        return {}
    found = {}
    for path in sorted((root / FOLDER).rglob("*.yml")):
        place = path.relative_to(root / FOLDER).with_suffix("").as_posix()
        if place.startswith(tuple(f"{folder}/" for folder in OVERLAYS)) == overlays:
            found[place] = path
    return found


def _places(name: str, files: dict[str, Path]) -> list[str]:
    """Return the places that a name may mean: that directly below ``configs/NPLP``, else all that end so."""
    direct = f"{PREFERRED}/{name}"
    return [direct] if direct in files else [place for place in files if f"/{place}".endswith(f"/{name}")]


def names_of(overlays: bool = False) -> dict[str, Path]:
    """Return the configurations to start from, or the overlays, by the shortest name that means one alone."""
    files = _files(overlays)
    names = {}
    for place, path in files.items():
        if not path.name.startswith(BASE):
            parts = place.split("/")
            ends = ("/".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
            names[next(end for end in ends if _places(end, files) == [place])] = path
    return names


def method_overlays() -> dict[str, Path]:
    """Return the overlays that are methods, by name."""
    found = _files(overlays=True)
    methods = {
        name.removeprefix(f"{METHODS}/"): path
        for name, path in found.items()
        if name.startswith(f"{METHODS}/")
    }
    return {name: path for name, path in methods.items() if name not in ADDITIONS}


def list_of_names(title: str, overlays: bool = False) -> str:
    """Return a paragraph of a help: a title, and under it the names there are."""
    words = ", ".join(names_of(overlays)) or "none, as the folder configs is missing"
    return f"{title}:\n{textwrap.fill(words, 100, initial_indent='  ', subsequent_indent='  ')}"


def find_configuration(word: str, option: str = "--config-file", overlays: bool = False) -> str:
    """Return the file that a word on a command line means.

    Args:
        word: a file's path; a name; or a path such as ``configs/NPLP/d2m.yml``, which is that file of the
            project where the current folder has none.
        option: what it was given by, for the message.
        overlays: whether the names of overlays are meant.

    Raises:
        UserError: if it is no path and no name, with the names there are, or if several have that name.
    """
    if not word or Path(word).is_file():
        return word
    plain = PureWindowsPath(word).as_posix()
    name = plain.removesuffix(".yml").removesuffix(".yaml")
    files = _files(overlays=False) | _files(overlays=True)
    if plain.startswith(f"{FOLDER}/") and name.removeprefix(f"{FOLDER}/") in files:
        return str(files[name.removeprefix(f"{FOLDER}/")])
    if name != plain or Path(word).exists():
        return word  # A path; whoever opens it says what is wrong with it.
    kind = _files(overlays)
    places = _places(name, kind)
    if len(places) == 1:
        return str(kind[places[0]])
    from nplp.errors import UserError

    if places:
        raise UserError(f"{option} {word!r} is the name of {', '.join(places)}: give one of these")
    known = list(names_of(overlays))
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(
        f"{option} {word!r} is neither a file nor a name: {hint}there are {', '.join(known) or 'no names'}"
    )


def name_in_project(path: str) -> str:
    """Return a configuration's path as others know it, ``configs/NPLP/d2m.yml``; other paths as they are."""
    root = configurations_root()
    if root is None or not Path(path).resolve().is_relative_to(root / FOLDER):
        return path
    return PurePosixPath(Path(path).resolve().relative_to(root)).as_posix()
