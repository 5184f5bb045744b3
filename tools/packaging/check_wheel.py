#!/usr/bin/env python
"""Install a wheel into a new environment, away from the checkout, and try what a user does first.

Example: ``python tools/packaging/check_wheel.py dist/nplp-0.2.0-py3-none-any.whl``. It installs what the
wheel requires, tries what works without the toolbox, installs the toolbox, and adapts a miniature of the
quickstart.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TOOLBOX = "fastreid==1.4.0"
TINY = {
    "DATASETS.SYNTHETIC.TRAIN_IDENTITIES": "12",
    "DATASETS.SYNTHETIC.TEST_IDENTITIES": "8",
    "DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY": "8",
    "DATASETS.SYNTHETIC.CAMERAS": "3",
    "DATASETS.SYNTHETIC.IMAGE_SIZE": "[64,32]",
    "INPUT.SIZE_TRAIN": "[32,16]",
    "INPUT.SIZE_TEST": "[32,16]",
    "INPUT.PADDING.SIZE": "2",
    "MODEL.HEADS.EMBEDDING_DIM": "32",
    "MODEL.BACKBONE.NAME": "build_narrow_resnet_backbone",
    "MODEL.BACKBONE.FEAT_DIM": "64",
    "MODEL.DEVICE": "cpu",
    "SOLVER.IMS_PER_BATCH": "16",
    "NPLP.SOURCE.IMS_PER_BATCH": "16",
    "NPLP.SOURCE.MAX_EPOCH": "1",
    "NPLP.ITERATIONS": "2",
    "NPLP.STARTUP_ITERATIONS": "1",
    "NPLP.ALPHA": "0.08",
    "SEED": "1",
}
"""The quickstart in seconds."""
FEATURES = """
import numpy
group = numpy.repeat(numpy.arange(4), 8)
numpy.save("features.npy", numpy.eye(4)[group])
numpy.save("cameras.npy", numpy.arange(32) % 4)
"""
LABELS = """
import numpy
from nplp.clustering import estimate_pseudo_labels
expected = numpy.repeat(numpy.arange(4), 8)
from_file = numpy.load("labels.npz")["labels"]
from_call = estimate_pseudo_labels(
    numpy.load("features.npy"), numpy.load("cameras.npy"), alpha=0.1, distance="euclidean"
).labels
for labels in (from_file, from_call):
    assert len(set(zip(labels, expected))) == len(set(labels)) == 4, labels
"""
WHERE = """
import nplp, nplp_commands, nplp_experiments, nplp_synthetic, sys
for package in (nplp, nplp_commands, nplp_experiments, nplp_synthetic):
    assert package.__file__.startswith(sys.prefix), package.__file__
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="check_wheel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("wheel", type=Path, help="what was built")
    add("--python", default=sys.executable, help="of the new environment (default: this one)")
    add("--constraints", type=Path, help="a file of versions for pip")
    add("--installer", default="", metavar="COMMAND", help="in place of pip, such as 'uv pip'")
    add("--keep", type=Path, metavar="DIR", help="the environment, kept afterwards (default: removed)")
    return parser


class Environment:
    """A new environment, and a folder to work in."""

    def __init__(self, folder: Path, python: str, installer: str) -> None:
        subprocess.run([python, "-m", "venv", str(folder / "env")], check=True)
        scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        self.python = str(scripts / "python")
        self.nplp = str(scripts / "nplp")
        self.work = folder / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        other = [*installer.split(), "install", "--python", self.python]
        self.installing = other if installer else [self.python, "-m", "pip", "install"]

    def install(self, *words: str) -> None:
        """Install packages.

        Raises:
            SystemExit: if that fails; the installer has said why.
        """
        command = [*self.installing, "--quiet", *words]
        if code := subprocess.run(command, check=False).returncode:
            sys.exit(f"{' '.join(command)[:300]}\nexit code {code}: the packages could not be installed")

    def run(self, *words: str, code: int = 0, said: str = "") -> None:
        """Run a command in the folder, and look at its exit code and at what it says.

        Raises:
            SystemExit: if either is something else.
        """
        hidden = ("PYTHONPATH", "NPLP_ZOO", "FASTREID_DATASETS")
        done = subprocess.run(
            words,
            cwd=self.work,
            env={key: value for key, value in os.environ.items() if key not in hidden},
            capture_output=True,
            text=True,
            check=False,
        )
        shown = done.stdout + done.stderr
        if done.returncode != code or said not in shown:
            found = f"exit code {done.returncode}, expected {code} and {said!r}"
            sys.exit(f"{' '.join(words)[:200]}\n{shown[-4000:]}\n{found}")
        sys.stdout.write(f"ok  {Path(words[0]).name} {' '.join(words[1:])[:80]!r}\n")
        sys.stdout.flush()


def check(environment: Environment) -> None:
    """Try what works without the toolbox, then all the rest."""
    python, nplp = environment.python, environment.nplp
    environment.run(python, "-c", WHERE)
    environment.run(nplp, "--help", said="your own cameras")
    environment.run(nplp, "--version", said="nplp ")
    environment.run(nplp, "train", "--help", said="quickstart")
    environment.run(nplp, "env", said="fastreid")
    environment.run(nplp, "train", "quickstart", code=2, said=f"pip install --no-deps {TOOLBOX}")
    environment.run(python, "-c", FEATURES)
    files = ["features.npy", "--cameras", "cameras.npy", "--out", "labels.npz"]
    environment.run(nplp, "cluster", *files, "--alpha", "0.1", "--distance", "euclidean", said="clusters")
    environment.run(python, "-c", LABELS)
    environment.install("--no-deps", TOOLBOX)
    environment.run(nplp, "train", "quikstart", code=2, said="did you mean 'quickstart'?")
    tiny = [word for pair in TINY.items() for word in pair]
    environment.run(nplp, "train", "quickstart", *tiny, said="Final")
    environment.run(nplp, "reproduce", "table1", "--dry-run", said="runs have ended")
    environment.run(
        nplp, "export", "--config-file", "logs/quickstart/config.yaml", "--output", "zoo/tiny", "--formats"
    )
    environment.run(nplp, "zoo", "verify", "zoo", said="ok  metrics")
    if not (environment.work / "logs" / "quickstart" / "report.html").is_file():
        sys.exit("the run left no report.html")


def main(args: argparse.Namespace) -> None:
    """Install and check."""
    folder = args.keep or Path(tempfile.mkdtemp(prefix="nplp-wheel-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        environment = Environment(folder.resolve(), args.python, args.installer)
        pinned = ["-c", str(args.constraints)] if args.constraints else []
        environment.install(f"nplp[cpu] @ {args.wheel.resolve().as_uri()}", *pinned)
        check(environment)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def command_line(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it asks for."""
    main(build_parser().parse_args(argv))


if __name__ == "__main__":
    command_line()
