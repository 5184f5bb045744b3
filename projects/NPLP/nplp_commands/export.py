"""Write a trained model as a bundle of the model zoo, which others can check, load and deploy."""

import argparse
import sys
from pathlib import Path

from nplp_commands import require_toolbox
from nplp_commands.configurations import find_configuration, name_in_project
from nplp_commands.parsing import OneLineParser, run_tool

FORMATS = ("onnx", "float16", "int8-dynamic", "int8-calibrated", "torch-export")
EPILOG = """\
examples:
  the quickstart's model, with ONNX:
    python tools/export_model_zoo.py --config-file configs/NPLP/quickstart.yml \\
        --output zoo/nplp_quickstart_R18
  other weights, every program:
    python tools/export_model_zoo.py --config-file configs/NPLP/d2m.yml --output zoo/nplp_d2m_R50 \\
        --formats onnx float16 int8-dynamic int8-calibrated torch-export -- MODEL.WEIGHTS model_final.pth
  weights alone, on a machine without the data:
    python tools/export_model_zoo.py --config-file configs/NPLP/d2m.yml --output zoo/nplp_d2m_R50 \\
        --formats --no-evaluate

The folder gets model.pth and model.safetensors (backbone and head up to the embedding), config.yaml,
results.json, the programs, README.md (the model card), model_zoo_row.md and SHA256SUMS. The same weights and
options give the same bytes. zoo://NAME then stands for the weights wherever weights are named; NPLP_ZOO names
the zoo's folder (default: zoo).
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="export_model_zoo", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="of the training, or its name")
    add("--output", required=True, type=Path, metavar="DIR", help="the bundle; its name is the model's")
    add(
        "--formats",
        nargs="*",
        choices=FORMATS,
        default=["onnx"],
        metavar="FORMAT",
        help=f"programs beside the weights: {', '.join(FORMATS)} (default: onnx)",
    )
    add(
        "--no-evaluate",
        action="store_true",
        help="take the metrics from results.json beside the weights instead of measuring them",
    )
    add("--force", action="store_true", help="replace the bundle that is in the folder")
    add("--licence", default="", metavar="TEXT", help="of the weights (default: what the data sets demand)")
    add(
        "opts",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="change keys of the configuration; MODEL.WEIGHTS is by default OUTPUT_DIR/model_final.pth",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Export and show what was written.

    Raises:
        UserError: if it cannot be done.
    """
    require_toolbox()
    from nplp.engine.run_record import format_results
    from nplp.engine.setup import configure_logging, load_config
    from nplp.export.bundle import ExportOptions, export_bundle
    from nplp.export.programs import format_programs

    args.config_file = find_configuration(args.config_file)
    cfg = load_config(args)
    configure_logging(cfg, to_file=False)
    options = ExportOptions(
        config_file=name_in_project(args.config_file),
        base=load_config(argparse.Namespace(config_file=args.config_file, opts=[])),
        formats=tuple(args.formats),
        evaluate=not args.no_evaluate,
        force=args.force,
        licence=args.licence,
    )
    bundle = export_bundle(cfg, args.output, options)
    results = bundle.results()
    programs = results.get("programs", {})
    sys.stdout.write(f"{format_results(results)}\n")
    if programs:
        sys.stdout.write(f"\n{format_programs(programs)}\n")
    sys.stdout.write(f"\n{bundle.folder}: {', '.join(bundle.sums)}\n")


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
