"""Group images into people: a folder or a table of images becomes a table of groups."""

import argparse
from pathlib import Path

from nplp_commands.images import (
    add_image_options,
    add_model_options,
    embed_table,
    load,
    read_images,
    require_search,
    say,
)
from nplp_commands.parsing import OneLineParser, run_tool

__all__ = ["build_parser", "command_line", "main"]

EPILOG = """\
The groups are those of the project's pseudo-label stage. A group may hold several people, and a person may be
in several groups: look at the page of --html before you rely on them.

examples:
  nplp group --model runs/site --images crops/ --output groups.csv --html groups.html
  about 200 people, with a folder of links for each group:
    nplp group --model runs/site --images crops/ --people 200 --output groups.csv --copy-to people --link
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp group", description=__doc__, epilog=EPILOG)
    add_model_options(parser)
    add_image_options(parser)
    group = parser.add_argument_group("groups")
    group.add_argument(
        "--people", type=int, metavar="N", help="how many there are (default: the radius is estimated)"
    )
    group.add_argument(
        "--min-images",
        type=int,
        default=4,
        metavar="N",
        help="images near each other that make a group, the image itself among them (default: 4)",
    )
    group.add_argument(
        "--correct", action="store_true", help="purer groups, and more images in none: the correcting stage"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", required=True, type=Path, metavar="FILE.csv", help="table of path, camera and group"
    )
    output.add_argument(
        "--copy-to", type=Path, metavar="DIR", help="new folder with the images of each group in a folder"
    )
    output.add_argument("--link", action="store_true", help="links in the place of copies")
    output.add_argument("--html", type=Path, metavar="FILE.html", help="write a page of the groups too")
    output.add_argument("--overwrite", action="store_true", help="replace the files of --output and --html")
    return parser


def main(args: argparse.Namespace) -> None:
    """Group and write.

    Raises:
        UserError: for a mistake in an option or a file.
    """
    require_search()
    from nplp.errors import UserError
    from nplp.files import write_atomically
    from nplp.search import group
    from nplp.search.outputs import check_output, check_output_folder, write_group_folders, write_groups

    for option, value in (("--people", args.people), ("--min-images", args.min_images)):
        if value is not None and value < 1:
            raise UserError(f"{option} must be at least 1, got {value}")
    check_output(args.output, ".csv", "--output", args.overwrite)
    if args.html is not None:
        check_output(args.html, ".html", "--html", args.overwrite)
    if args.copy_to is not None:
        check_output_folder(args.copy_to, "--copy-to")
    elif args.link:
        raise UserError("--link is for the folders of --copy-to: name one")
    table = read_images(args)
    model = load(args.model, args)
    paths, cameras, features = embed_table(model, table, args)
    labels = group(
        features,
        cameras,
        people=args.people,
        min_samples=args.min_images,
        correct=args.correct,
        progress=True,
    )
    if args.html is not None:
        from nplp.search.sheets import group_sheet

        write_atomically(args.html, group_sheet(paths, cameras, labels))
    if args.copy_to is not None:
        write_group_folders(args.copy_to, paths, labels, args.link)
    write_groups(args.output, paths, cameras, labels)
    count, outside = int(labels.max(initial=-1)) + 1, int((labels < 0).sum())
    say(f"{args.output}: {len(paths):,} images in {count:,} groups, {outside:,} in none")
    if cameras is None or len(set(cameras)) < 2:
        say("without several cameras a camera's own look may be taken for a person's: name them if you can")


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
