#!/usr/bin/env python
"""Measure how long a start takes: the package's import, and a command's first training step.

    python benchmarks/starting.py --before 65fe9d6 --repeats 5

checks that commit out into a temporary folder and measures it and this checkout in turn. Times are those of
the processor, which a busy machine does not change much, and of the clock.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nplp.circumstances import circumstances, commit

ROOT = Path(__file__).parents[1]
IMPORT = "import nplp"
TORCH = "import torch"
FIRST_STEP = """
import os, sys
from nplp.engine.trainer import ReidTrainer
step = ReidTrainer._run_step
def only(self, number):
    step(self, number)
    sys.stdout.flush()
    os._exit(0)
ReidTrainer._run_step = only
from nplp_commands.train import command_line
sys.argv = ["train_net.py", "--config-file", {config!r}, "OUTPUT_DIR", {output!r}]
command_line()
"""


def measure(code: str, tree: Path) -> dict[str, float]:
    """Return the seconds of a program, by the processor and by the clock.

    Args:
        code: the program.
        tree: the checkout that it imports the package from.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree / "projects" / "NPLP")}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "clock": clock}


def main() -> None:
    """Measure, and print a JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", metavar="COMMIT", help="compare with this commit")
    parser.add_argument("--config-file", default="configs/NPLP/quickstart.yml", metavar="FILE")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = {"now": ROOT}
        if args.before:
            trees = {"before": Path(folder) / "before", **trees}
            command = [
                "git",
                "-C",
                str(ROOT),
                "worktree",
                "add",
                "--detach",
                str(trees["before"]),
                args.before,
            ]
            subprocess.run(command, check=True, capture_output=True)
        try:
            times = _alternate(trees, args.config_file, args.repeats, Path(folder))
        finally:
            if args.before:
                command = ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(trees["before"])]
                subprocess.run(command, check=True, capture_output=True)
    sys.stdout.write(json.dumps({**circumstances(), "commit": commit(), "seconds": times}, indent=2) + "\n")


def _alternate(
    trees: dict[str, Path], config: str, repeats: int, folder: Path
) -> dict[str, dict[str, float]]:
    """Return the medians by what was measured."""
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(repeats + 1):
        for name, tree in trees.items():
            step = FIRST_STEP.format(config=config, output=str(folder / f"{name}-{number}"))
            for what, code in (("import torch", TORCH), ("import nplp", IMPORT), ("first step", step)):
                seconds = measure(code, tree)
                # The first round compiles Python's files and draws images.
                if number:
                    found.setdefault(f"{what}, {name}", []).append(seconds)
    return {
        what: {kind: round(statistics.median(each[kind] for each in all_of), 2) for kind in all_of[0]}
        for what, all_of in found.items()
    }


if __name__ == "__main__":
    main()
