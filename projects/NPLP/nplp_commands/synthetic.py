"""Render the built-in synthetic person re-ID domains, or a contact sheet to look at them."""

import argparse
import re
import sys
from pathlib import Path

from nplp_commands.parsing import OneLineParser, run_tool
from nplp_synthetic import (
    DOMAINS,
    DomainSpec,
    TrackedImage,
    contact_sheet,
    default_cache_root,
    ensure_domain,
    market_name,
    track_images,
)

EPILOG = """\
examples:
  all domains into the cache, where training looks for them:
    python tools/make_synthetic.py
  see the first twelve people of the station without rendering the rest:
    python tools/make_synthetic.py --domain station --sheet-only --sheet station.png
  a larger target, 2 x 700 people and 8 cameras, in a folder of your own:
    python tools/make_synthetic.py --domain station --identities 700 --cameras 8 --output data/synthetic
  a table of the station's people with tracks of 8 images, one in twenty of them of two people:
    python tools/make_synthetic.py --domain station --table station.csv --track-length 8 --wrong-tracks 0.05

Each domain lies in a folder <domain>-<hash of its settings> in Market-1501's layout, with manifest.json;
the folder's path is printed. A domain that is there already is not rendered again.
"""
SHEET_ROWS = 12


def image_size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH in pixels."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, such as 128x64, got {text!r}")
    return int(match[1]), int(match[2])


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="make_synthetic", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add(
        "--domain",
        choices=(*DOMAINS, "all"),
        default="all",
        help="what to render (default: all of them)",
    )
    add(
        "--identities",
        type=int,
        default=96,
        metavar="N",
        help="people in the training set; as many others are in the test set (default: 96)",
    )
    add(
        "--images-per-identity",
        type=int,
        default=16,
        metavar="N",
        help="images of each person over all cameras, at least 4 (default: 16)",
    )
    add("--cameras", type=int, default=6, metavar="N", help="cameras, at least 2 (default: 6)")
    add("--distractors", type=int, default=150, metavar="N", help="gallery images of nobody (default: 150)")
    add("--junk", type=int, default=50, metavar="N", help="gallery images in bad boxes (default: 50)")
    add(
        "--size",
        type=image_size,
        default=(128, 64),
        metavar="HxW",
        help="height and width of the images in pixels (default: 128x64)",
    )
    add(
        "--difficulty",
        type=float,
        default=1.0,
        metavar="X",
        help="factor of all that makes the domain hard: cameras, views, look-alikes, occlusion (default: 1)",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the domains' folders (default: NPLP_CACHE, else ~/.cache/nplp)",
    )
    add(
        "--table",
        type=Path,
        metavar="FILE.csv",
        help="also write a table of the images of people with camera, identity, split, track and time, as "
        "OwnImages reads it; with --domain all the domain's name is added to each file's",
    )
    add(
        "--track-length",
        type=int,
        default=8,
        metavar="L",
        help="images of a track in the table, at most (default: 8)",
    )
    add(
        "--wrong-tracks",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the tracks in the table that hold images of two people (default: 0)",
    )
    add("--workers", type=int, metavar="N", help="processes (default: one for each processor)")
    add(
        "--sheet",
        type=Path,
        metavar="FILE.png",
        help="also draw a contact sheet: a row a person, a column a camera; "
        "with --domain all the domain's name is added to each file's",
    )
    add("--sheet-only", action="store_true", help="draw the contact sheet and render nothing else")
    return parser


def main(args: argparse.Namespace) -> None:
    """Render what was asked for and print the folders' and files' paths.

    Raises:
        ValueError: If an option is out of its range or a folder or file cannot be written.
    """
    if args.sheet_only and args.sheet is None:
        raise ValueError("--sheet-only needs --sheet FILE.png")
    if args.table is not None and args.sheet_only:
        raise ValueError("--table needs the images, which --sheet-only leaves out: leave one of them out")
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    names = tuple(DOMAINS) if args.domain == "all" else (args.domain,)
    specs = [
        DomainSpec(
            name=name,
            train_identities=args.identities,
            test_identities=args.identities,
            images_per_identity=args.images_per_identity,
            cameras=args.cameras,
            image_size=args.size,
            distractors=args.distractors,
            junk=args.junk,
            seed=args.seed,
            style=DOMAINS[name].scaled(args.difficulty),
        )
        for name in names
    ]
    tracked = [track_images(spec, args.track_length, args.wrong_tracks) for spec in specs if args.table]
    for number, spec in enumerate(specs):
        if not args.sheet_only:
            folder = ensure_domain(spec, args.output or default_cache_root(), True, args.workers)
            sys.stdout.write(f"{folder}\n")
        if args.table is not None:
            path = _named_for(args.table, spec, specs)
            write_table(tracked[number], folder, path)
            sys.stdout.write(f"{path}\n")
        if args.sheet is not None:
            path = _named_for(args.sheet, spec, specs)
            write_sheet(spec, path)
            sys.stdout.write(f"{path}\n")


def _named_for(path: Path, spec: DomainSpec, specs: list[DomainSpec]) -> Path:
    """Return the path of one domain's file: with its name where there are several."""
    return path.with_name(f"{path.stem}-{spec.name}{path.suffix}") if len(specs) > 1 else path


def write_table(images: list[TrackedImage], folder: Path, path: Path) -> None:
    """Write the table of a domain's images of people, with absolute paths.

    Raises:
        ValueError: If the file cannot be written.
    """
    import polars as pl

    from nplp.files import write_atomically

    table = pl.DataFrame(
        {
            "path": [str((folder / market_name(image.record)).absolute()) for image in images],
            "camera": [image.record.camera for image in images],
            "identity": [image.record.identity for image in images],
            "split": [image.record.split for image in images],
            "track": [image.track for image in images],
            "time": [image.time for image in images],
        }
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, table.write_csv())
    except OSError as error:
        raise ValueError(f"cannot write the table {path}: {error.strerror or error}") from error


def write_sheet(spec: DomainSpec, path: Path) -> None:
    """Draw the contact sheet of a domain's first people.

    Raises:
        ValueError: If the file cannot be written or its name says no format.
    """
    people = range(1, min(SHEET_ROWS, spec.identities) + 1)
    try:
        contact_sheet(spec, people, images_per_cell=2).save(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot write the contact sheet {path}: {error}") from error


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
