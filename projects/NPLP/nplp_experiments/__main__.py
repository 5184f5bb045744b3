"""Run the paper's tables and figures, and the questions that its open points raise."""

import argparse
import logging
import os
import sys
from pathlib import Path

from nplp_commands import require_toolbox
from nplp_commands.parsing import OneLineParser, as_typed, run_tool
from nplp_experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp_experiments.definitions import Domain, Experiment

EPILOG = """\
examples:
  what there is:
    python tools/reproduce.py --list
  Table I on the built-in domains; stop it and go on whenever you like:
    python tools/reproduce.py table1 --domain synthetic --seeds 0 1 2 3 4
  everything, and first what would be run:
    python tools/reproduce.py all --dry-run
  the committed tables again, from the committed records of their runs, without running anything:
    python tools/reproduce.py all --no-run --output docs/results/reproduce
  a public model on a small real camera network, PKU-Reid (datasets/README.md says where both go):
    python tools/reproduce.py real
  Fig. 5 on the real data sets (FASTREID_DATASETS):
    python tools/reproduce.py fig5a fig5b --domain real

Runs that several experiments need are run once: a source model for each direction, architecture and seed, a
startup stage for all that branch from it. Tables are written for what has been run.
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="reproduce", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("experiments", nargs="*", metavar="EXPERIMENT", help="names that --list shows, or all")
    add("--list", action="store_true", help="show the experiments and end")
    add(
        "--domain",
        choices=tuple(DOMAINS),
        default="synthetic",
        help="where experiments run that can run there (default: synthetic)",
    )
    add("--seeds", type=int, nargs="+", metavar="N", help="default: as many as the experiment takes")
    cores = os.cpu_count() or 1
    add("--jobs", type=int, default=cores, metavar="N", help=f"runs at a time (default: the cores, {cores})")
    add("--threads", type=int, default=1, metavar="N", help="of each run; changes the rounding (default: 1)")
    add("--folder", type=Path, default=Path("logs/reproduce"), help="of the runs (default: logs/reproduce)")
    add(
        "--output",
        type=Path,
        default=Path("logs/reproduce/results"),
        help="of tables, figures and runs.jsonl (default: logs/reproduce/results)",
    )
    add(
        "--other-code",
        action="store_true",
        help="count runs in --folder that were made by other code than the present one",
    )
    add("--dry-run", action="store_true", help="show which runs there are and which have ended")
    add(
        "--no-run",
        action="store_true",
        help="write tables and figures of what has been run, here or by whoever left runs.jsonl in --output",
    )
    return parser


def main(args: argparse.Namespace) -> int:
    """List, plan, run and write tables; return 1 if a run failed.

    Raises:
        UserError: for an unknown experiment, a number that is out of range, or if the toolbox is missing.
    """
    from nplp.errors import UserError

    if args.list:
        width = max(map(len, EXPERIMENTS))
        lines = [f"{name:<{width}}  {each.title}\n" for name, each in EXPERIMENTS.items()]
        sys.stdout.write("".join(lines))
        return 0
    unknown = [name for name in args.experiments if name not in EXPERIMENTS and name != "all"]
    if unknown or not args.experiments:
        said = f"unknown experiment {unknown[0]!r}" if unknown else "no experiment was named"
        raise UserError(f"{said}: use all or some of {', '.join(EXPERIMENTS)}")
    for name, value in (("--jobs", args.jobs), ("--threads", args.threads)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    if args.seeds and min(args.seeds) < 0:
        raise UserError(f"--seeds must be at least 0, got {min(args.seeds)}")
    require_toolbox()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    names = list(EXPERIMENTS) if "all" in args.experiments else args.experiments
    chosen: dict[str, list[Experiment]] = {}
    for name in names:
        chosen.setdefault(domain_of(EXPERIMENTS[name], args.domain), []).append(EXPERIMENTS[name])
    return max([_reproduce(args, DOMAINS[name], part) for name, part in chosen.items()])


def domain_of(experiment: Experiment, asked_for: str) -> str:
    """Return where an experiment is run: where it is asked for, if it can be, else where it can be."""
    able = [name for name, domain in DOMAINS.items() if {*experiment.directions} & {*domain.directions}]
    return asked_for if asked_for in able else able[0]


def _reproduce(args: argparse.Namespace, domain: Domain, chosen: list[Experiment]) -> int:
    """Plan, run and write the tables of experiments in one domain; return 1 if a run failed."""
    from nplp_experiments.plan import plan
    from nplp_experiments.results_file import RECORDS, gather_records, save_records
    from nplp_experiments.running import finished, run_missing
    from nplp_experiments.writing import write_experiment

    runs, cells = plan(domain, chosen, args.seeds)
    state = {run.key: finished(run, args.folder, args.other_code) for run in runs}
    if args.dry_run:
        lines = [f"{'ended  ' if state[run.key] else 'missing'}  {run.key}\n" for run in runs]
        sys.stdout.write("".join(lines))
        sys.stdout.write(f"{sum(state.values())} of {len(runs)} runs have ended\n")
        return 0
    failed = [] if args.no_run else run_missing(runs, args.folder, args.jobs, args.threads, args.other_code)
    output = args.output / domain.name
    records = gather_records(runs, args.folder, output / RECORDS, args.other_code)
    if records:
        save_records(output / RECORDS, records)
    for experiment in chosen:
        text = write_experiment(experiment, domain, cells[experiment.name], records, args.folder, output)
        sys.stdout.write(f"{text}\n" if text else f"{experiment.name}: nothing has been run\n")
    for key in failed:
        sys.stderr.write(f"{as_typed('reproduce')}: failed or not begun: {key}\n")
    return 1 if failed else 0


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
