"""Train, resume or evaluate an NPLP model, or any stock model of the toolbox."""

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from nplp_commands import require_toolbox
from nplp_commands.configurations import find_configuration, list_of_names
from nplp_commands.parsing import COMMAND, OneLineParser, as_typed, run_tool

NAME = "train_net"
MODULE = "nplp_commands.train"
EPILOG = """\
examples:
  the built-in task, minutes on two cores:
    python tools/train_net.py --config-file configs/NPLP/quickstart.yml
  DukeMTMC-reID to Market-1501 on four GPUs, another seed:
    python tools/train_net.py --config-file configs/NPLP/d2m.yml --num-gpus 4 SEED 1 OUTPUT_DIR logs/d2m_seed1
  on eight GPUs by torchrun, which starts the run again from its last state where a process fails:
    torchrun --nproc-per-node 8 --max-restarts 3 tools/train_net.py --config-file configs/NPLP/d2m.yml
  continue a run that was stopped (by Ctrl-C, a signal, a crash):
    python tools/train_net.py --config-file configs/NPLP/d2m.yml --resume
  evaluate a trained model:
    python tools/train_net.py --config-file configs/NPLP/d2m.yml --eval-only MODEL.WEIGHTS model_final.pth
  a configuration of the project by its name, in a checkout and without one:
    python tools/train_net.py quickstart SEED 1
    python tools/train_net.py pku --overlay memory

FASTREID_DATASETS names the folder that holds the data sets (default: datasets).
All keys, with their defaults and meanings: projects/NPLP/nplp/config/keys.py.
"""
KEY = re.compile(r"[A-Z][A-Z0-9_.]*")


class _Words(argparse.Action):
    """Takes a configuration's name, if one comes first, the options after it, and KEY VALUE pairs."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _: str | None = None,
    ) -> None:
        """Store the pairs under ``opts``, and the name under ``config_file`` where no file was given."""
        words = list(values)
        if (
            words
            and not namespace.config_file
            and not words[0].startswith("-")
            and not KEY.fullmatch(words[0])
        ):
            namespace.config_file = words.pop(0)
            if words and words[0].startswith("-"):
                parser.parse_args(words, namespace)
                return
        namespace.opts = words


def build_parser() -> OneLineParser:
    """Return the parser, with the toolbox's arguments."""
    names = f"{list_of_names('configurations')}\n\n{list_of_names('overlays', overlays=True)}\n"
    parser = OneLineParser(
        prog=NAME,
        usage=f"{as_typed(NAME)} [NAME] [options] [KEY VALUE ...]",
        description=__doc__,
        epilog=f"{EPILOG}\n{names}",
    )
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="configuration, or the name of one of the project's; the name may also stand by itself",
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="FILE",
        help="merge another file over it, or one of the project's by its name; may be repeated",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an earlier run in OUTPUT_DIR (default: keep it in OUTPUT_DIR/earlier_runs)",
    )
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="evaluate MODEL.WEIGHTS (default: OUTPUT_DIR/model_final.pth)",
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="GPUs a machine; without CUDA, processes (default: 1)",
    )
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="machines (default: 1)")
    parser.add_argument(
        "--machine-rank", type=int, default=0, metavar="N", help="this machine's number, from 0"
    )
    parser.add_argument(
        "--dist-url", default="auto", metavar="URL", help="where the processes meet (default: a free port)"
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        default=[],
        action=_Words,
        metavar="NAME, KEY VALUE",
        help="a configuration's name where no --config-file is given, and changes of its keys",
    )
    return parser


def run_process(args: argparse.Namespace) -> None:
    """Run one process of the training or of the evaluation.

    Raises:
        UserError: for a mistake in the configuration, the data or the weights.
    """
    from nplp.distributed.processes import restarted
    from nplp.engine.pipeline import evaluate_only, run
    from nplp.engine.setup import base_config, configure_logging, load_config
    from nplp.report.after_run import write_pages
    from nplp_commands.stopping import stoppable

    with stoppable(as_typed(NAME), how_to_go_on(args)):
        cfg = load_config(args)
        again = restarted()
        if args.eval_only:
            configure_logging(cfg, to_file=False)
            evaluate_only(cfg)
            return
        configure_logging(cfg)
        run(
            cfg,
            base_config(args.config_file),
            resume=args.resume or again,
            overwrite=args.overwrite and not again,
            at_end=write_pages,
        )


def how_to_go_on(args: argparse.Namespace) -> str:
    """Return what to type to go on after an interruption; nothing after an evaluation."""
    if args.eval_only:
        return ""
    if sys.argv[0].startswith(COMMAND):
        program = sys.argv[0].split()
    elif Path(sys.argv[0]).resolve() == Path(__file__).resolve():
        program = ["python", "-m", MODULE]
    else:
        program = ["python", sys.argv[0]]
    options = [option for option in sys.argv[1:] if option not in ("--resume", "--overwrite")]
    # Before KEY VALUE, which takes all that follows.
    command = shlex.join([*program, "--resume", *options])
    return f"; what was saved is kept, go on with\n  {command}"


def main(args: argparse.Namespace) -> None:
    """Start the processes and wait for them.

    Raises:
        UserError: for a mistake in the options, or one that a process found.
    """
    from nplp.errors import UserError

    if args.resume and args.overwrite:
        raise UserError("--resume goes on with the run that --overwrite removes: leave one out")
    machines = max(1, args.num_machines)
    for option, value, holds, rule in (
        ("--num-gpus", args.num_gpus, args.num_gpus >= 1, "at least 1"),
        ("--num-machines", args.num_machines, args.num_machines >= 1, "at least 1"),
        (
            "--machine-rank",
            args.machine_rank,
            0 <= args.machine_rank < machines,
            "from 0 to below --num-machines",
        ),
    ):
        if not holds:
            raise UserError(f"{option} must be {rule}, got {value}")
    args.config_file = find_configuration(args.config_file)
    args.overlay = [find_configuration(word, "--overlay", overlays=True) for word in args.overlay]
    require_toolbox()
    from nplp.distributed.processes import launch
    from nplp.engine.setup import load_config

    # Here too: the processes communicate from the device, and a mistake is found before there are any.
    device = load_config(args).MODEL.DEVICE
    launch(run_process, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, (args,), device)


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    # Any other ValueError is a defect here, whose traceback is needed.
    run_tool(build_parser(), main, user_errors_alone=True, how_to_go_on=how_to_go_on)


if __name__ == "__main__":
    command_line()
