"""Show versions, devices and settings for a report of a problem: no path, no name of a user or machine."""

import argparse
import json
import os
import platform
import sys
from typing import Any

from nplp_commands.configurations import names_of
from nplp_commands.parsing import OneLineParser, run_tool

EPILOG = """\
examples:
  what to paste into a report:
    nplp env
  the same for programs:
    nplp env --json

Of variables of the environment that hold folders only whether they are set is shown.
"""
PACKAGES = (
    "nplp",
    "fastreid",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "faiss-cpu",
    "faiss-gpu",
    "Pillow",
    "polars",
    "safetensors",
    "timm",
    "infomap",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "huggingface_hub",
)
FOLDERS = ("FASTREID_DATASETS", "NPLP_ZOO", "TORCH_HOME", "NUMBA_CACHE_DIR")
"""Variables that hold folders, whose names may tell who the user is."""
NUMBERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE")
SHOWN = "0123456789,-"
"""What a value may consist of to be shown."""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp env", description=__doc__, epilog=EPILOG)
    parser.add_argument("--json", action="store_true", help="as one object of JSON")
    return parser


def facts() -> dict[str, Any]:
    """Return what is shown, in groups."""
    from nplp.circumstances import package_versions, processor, usable_cores
    from nplp.host import INSTALL_COMMAND, toolbox_fault

    fault = toolbox_fault()
    names = names_of()
    # Whoever builds a kernel may name it after themselves, behind the numbers.
    release = platform.release().split("-")[0]
    return {
        "versions": package_versions(PACKAGES),
        "system": {
            "platform": f"{platform.system()} {release} {platform.machine()}",
            "implementation": platform.python_implementation(),
            "processor": processor(),
            "cores": usable_cores(),
            "memory_gb": _memory(),
        },
        "devices": _devices(),
        "settings": {**{name: _shown(name) for name in NUMBERS}, **{name: _is_set(name) for name in FOLDERS}},
        "hints": {
            "toolbox": f"{fault}: {INSTALL_COMMAND}" if fault else "ready",
            "configurations": f"{len(names)} by name" if names else "missing: install nplp again",
        },
    }


def _memory() -> float | None:
    """Return the machine's memory in gigabytes; None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _devices() -> dict[str, Any]:
    """Return what torch can compute on."""
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    memory = [torch.cuda.get_device_properties(number).total_memory for number in range(len(names))]
    gpus = [f"{name}, {size / 1e9:.0f} GB" for name, size in zip(names, memory, strict=True)]
    return {
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "mps": torch.backends.mps.is_available(),
        "start_method": torch.multiprocessing.get_start_method(allow_none=True) or "default",
    }


def _is_set(name: str) -> str:
    return "set" if os.environ.get(name) else "not set"


def _shown(name: str) -> str:
    """Return a variable's value if it is of numbers alone, else whether it is set."""
    value = os.environ.get(name, "")
    return value if value and not set(value) - set(SHOWN) else _is_set(name)


def main(args: argparse.Namespace) -> None:
    """Show the facts."""
    groups = facts()
    if args.json:
        sys.stdout.write(f"{json.dumps(groups, indent=2)}\n")
        return
    width = max(len(name) for group in groups.values() for name in group)
    for title, group in groups.items():
        sys.stdout.write(f"{title}\n")
        for name, value in group.items():
            text = ", ".join(value) if isinstance(value, list) else value
            sys.stdout.write(f"  {name:<{width}}  {'-' if text in (None, '') else text}\n")


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
