#!/usr/bin/env python
"""Everything of this project that needs a GPU, in one run: tests, pseudo-labels, models, an adaptation.

The parts come most valuable first. Each runs in a process of its own, and what it measured is in the output
as soon as it is known, so that a run that is cut short still counts. A part that fails is a line with its
reason, and the next one goes on; a part whose time is not left is skipped and says so. --resume keeps the
parts that an output of the same commit and card has already and measures the others.

  environment     card, driver, versions, cores, date, commit
  tests           pytest -m gpu: passed, failed and skipped, with the failures' first lines
  pseudo-labels   the stage at 12,936, 32,621 and 126,441 x 1024 and 1,000,000 x 512 by both distances,
                  against a bare product X @ X.T in float32 on the same card, without and with TF32; the first
                  size on the CPU as well, where equal digests tell that the labels are equal
  speed           training steps and extraction of ResNet-50 at 256 x 128, NPLP and the toolbox's Baseline,
                  by precision, from tensors on the card. In float32 the convolutions use TF32, as torch's
                  default is; matrix products do not
  loader          the same from the image files of --data, and the loader alone
  repeatability   two equal runs of 20 steps, with and without torch's deterministic algorithms
  adaptation      a whole run on the synthetic pair that --render drew into --data

A part of one size or model is called by it, such as "speed NPLP" or "pseudo-labels 12936x1024".

It needs torch, torchvision, numpy, scipy, scikit-learn, numba, Pillow, fastreid, yacs, PyYAML, termcolor,
tabulate, tqdm and safetensors, and for the tests pytest and hypothesis. It needs no faiss and no network, and
this project need not be installed. --miniature runs every part small, on the CPU, in a minute or two.

Examples:
  python benchmarks/gpu.py --render --data gpu-data          # before, on any machine
  python benchmarks/gpu.py --minutes 9 --data gpu-data --output docs/results/gpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_plan import Figures, carry_out, say

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {
    "torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "scipy": "scipy",
    "sklearn": "scikit-learn", "numba": "numba", "PIL": "Pillow", "fastreid": "fastreid", "yacs": "yacs",
    "yaml": "PyYAML", "termcolor": "termcolor", "tabulate": "tabulate", "tqdm": "tqdm",
    "safetensors": "safetensors",
}  # fmt: skip
"""Modules that must be there, and the names that they are installed by."""


def missing_packages() -> list[str]:
    """Return the names of needed packages that are not there."""
    return [name for module, name in NEEDED.items() if find_spec(module) is None]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9, metavar="M", help="time for all parts (default: 9)")
    add("--output", type=Path, metavar="FILE", help="where the figures go, as JSON")
    add("--data", type=Path, metavar="FOLDER", help="folder of the synthetic pair, rendered before")
    add("--render", action="store_true", help="render the pair into --data and end; needs no GPU")
    add("--parts", nargs="+", metavar="NAME", help="measure these parts only")
    add("--resume", action="store_true", help="keep what the output has of the same commit and card")
    add("--commit", metavar="TEXT", help="the commit, where the folder is no checkout")
    add("--miniature", action="store_true", help="everything small, on the CPU")
    return parser


def earlier_figures(output: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that an output holds, of a run of the same commit and card.

    Raises:
        ValueError: if it is of another commit, card or size, or cannot be read.
    """
    if not output.exists():
        return {}
    try:
        earlier: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        before = {name: earlier.get(name) for name in about}
        parts: dict[str, Any] = earlier["parts"]
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"--resume: {output} is no output of this script: name another file") from error
    for name, value in about.items():
        if before[name] != value:
            raise ValueError(f"--resume: {output} is of {name} {before[name]}, this is {value}")
    return parts


def run(args: argparse.Namespace) -> int:
    """Measure what `args` asks for and return the exit status."""
    from gpu_parts import build_parts, card, render
    from nplp.circumstances import commit

    if args.render:
        render(args.data, args.miniature)
        return 0
    about = {"card": card(args.miniature), "commit": args.commit or commit(), "miniature": args.miniature}
    parts = build_parts(args.data, args.miniature)
    if unknown := set(args.parts or ()) - {part.name for part in parts}:
        raise ValueError(
            f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(part.name for part in parts)}"
        )
    known = {**about, "minutes": args.minutes, "parts": {}}
    if args.resume:
        known["parts"] = earlier_figures(args.output, about)
    chosen = [part for part in parts if args.parts is None or part.name in args.parts]
    return int(not carry_out(chosen, Figures(args.output, known), 60 * args.minutes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the command line and run.

    Returns:
        0; 1 if a part failed; 2 for options, packages or a machine that cannot be used; 130 if interrupted.
    """
    args = build_parser().parse_args(arguments)
    if missing := missing_packages():
        say(f"gpu: missing packages, install them first: {', '.join(missing)}")
        return 2
    if args.output is None and not args.render:
        say("gpu: --output is missing: name the file that the figures go to")
        return 2
    if args.data is None and args.render:
        say("gpu: --render needs --data, the folder to render into")
        return 2
    # Of this process, and of those that it starts: the project need not be installed.
    sys.path.insert(0, str(ROOT / "projects" / "NPLP"))
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], *([inherited] if inherited else [])])
    import torch

    if not (args.miniature or args.render or torch.cuda.is_available()):
        say("gpu: no CUDA device is there: run it where there is one, or with --miniature")
        return 2
    try:
        return run(args)
    except (ValueError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        say(f"gpu: {error}")
        return 2
    except KeyboardInterrupt:
        say("gpu: stopped; what was measured is in the output")
        return 130


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # A batch system's signal must end the processes that measure too.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
