"""Cut the people of a tracker's text file out of its frames: crops by camera, and a table of them."""

import argparse
import sys

from nplp_commands import require_toolbox
from nplp_commands.parsing import OneLineParser, run_tool

EPILOG = """\
a line of the tracker's file, as MOTChallenge has it; spaces may stand for the commas:
  frame,id,x,y,w,h[,confidence,...]
  frame counts from 1; a frame's image is the one whose name ends on that number, such as 000001.jpg
  id is the track; detections of no track have -1

what is written into the folder of --output:
  CAMERA/TRACK_FRAME.jpg   the crops
  images.csv               path, camera, track, time: a table for DATASETS.OWN.SOURCE and the commands of nplp

examples:
  two cameras into one folder, one after the other:
    nplp crops --tracks gate.txt --frames gate/img1 --camera gate --output crops --fps 25
    nplp crops --tracks hall.txt --frames hall/img1 --camera hall --output crops --fps 25
  two crops a second of each track, of sure boxes alone:
    nplp crops --tracks gate.txt --frames gate/img1 --camera gate --output crops --fps 25 --every 12 \\
      --min-confidence 0.6

Mistakes end with exit code 2 and Ctrl-C with 130; neither leaves crops or rows behind.
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp crops", description=__doc__, epilog=EPILOG)
    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--tracks", required=True, metavar="FILE.txt", help="what the tracker wrote")
    add("--frames", required=True, metavar="DIR", help="folder of the frames, one image each")
    add("--camera", required=True, metavar="NAME", help="the camera's name, new in the folder of --output")
    add(
        "--output",
        required=True,
        metavar="DIR",
        help="folder of the crops and their table",
    )
    choice = parser.add_argument_group("which boxes")
    add = choice.add_argument
    add(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="a track's boxes N frames apart or more (default: 1)",
    )
    add("--min-height", type=int, default=64, metavar="PIXELS", help="least height of a crop (default: 64)")
    add("--min-confidence", type=float, metavar="X", help="least confidence of a box (default: any)")
    times = parser.add_argument_group("times")
    times.add_argument(
        "--fps", type=float, metavar="N", help="frames a second; without it the times are not known"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Cut the crops and say what became of the boxes.

    Raises:
        UserError: for a mistake in an option or a file, or if something cannot be written.
    """
    require_toolbox()
    from nplp.data.crops import cut_crops
    from nplp.data.mot import CropOptions

    options = CropOptions(args.fps, args.every, args.min_height, args.min_confidence)
    crops = cut_crops(args.tracks, args.frames, args.camera, args.output, options)
    left_out = [f"{count:,} {reason}" for reason, count in crops.left_out.items()]
    total = sum(crops.left_out.values())
    sys.stdout.write(
        f"{args.camera}: {crops.crops:,} crops of {crops.tracks:,} tracks from {crops.frames:,} frames"
        + (f"; {total:,} boxes left out: {', '.join(left_out)}" if left_out else "")
        + f"\n{crops.table}: {crops.images:,} images, cameras: {crops.cameras:,}\n"
    )


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
