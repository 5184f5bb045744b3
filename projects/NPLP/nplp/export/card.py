"""The words that go with a model: its card, and its rows in tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from jinja2 import Environment, PackageLoader, StrictUndefined
from tabulate import tabulate

from nplp.config.choices import CAMERA_NONE
from nplp.data.datasets import SYNTHETIC
from nplp.engine.run_record import config_differences, format_results
from nplp.errors import printable
from nplp.export.programs import CALIBRATION_IMAGES
from nplp.metric_names import STAGES

__all__ = ["LICENCES", "ZOO_HEADER", "backbone_of", "card_facts", "licence_of", "render_card", "zoo_row"]

OF_THE_MACHINE = (
    "MODEL.WEIGHTS",
    "MODEL.DEVICE",
    "NPLP.SOURCE.WEIGHTS",
    "OUTPUT_DIR",
    "DATASETS.OWN.SOURCE",
    "DATASETS.SYNTHETIC.ROOT",
    "DATALOADER.DECODED.DISK_MB",
    "DATALOADER.DECODED.MEMORY_MB",
    "DATALOADER.NUM_WORKERS",
)
LICENCES = {
    "Market1501": "Market-1501 is for academic use under its publishers' terms",
    "DukeMTMC": "DukeMTMC was withdrawn by Duke University in 2019, as the people in it had not consented",
    "MSMT17": "MSMT17 is given out on request, for academic use under its publishers' terms",
}
ZOO_HEADER = (
    "| Method | Pretrained | Rank@1 | mAP | mINP | download |",
    "| :---: | :---: | :---: | :---: | :---: | :---: |",
)
"""The columns of the toolbox's own MODEL_ZOO.md."""


def backbone_of(cfg: CfgNode) -> str:
    """Return the short name of a backbone in the toolbox's tables, such as ``R50`` or ``R50-ibn``."""
    backbone = cfg.MODEL.BACKBONE
    name = backbone.NAME.removeprefix("build_").removesuffix("_backbone")
    letter = {"resnet": "R", "resnest": "S", "resnext": "X"}.get(name, f"{name}-")
    return f"{letter}{backbone.DEPTH.removesuffix('x')}" + ("-ibn" if backbone.WITH_IBN else "")


GIVEN_WEIGHTS = "the weights "
"""What begins the name of weights that training began from, in the place of a data set's."""


def licence_of(datasets: set[str]) -> str:
    """Return what is known of the terms of a model that saw these data sets."""
    if datasets <= set(SYNTHETIC):
        return "Apache-2.0, like the project, which also drew the images that it was trained on."
    terms = [
        LICENCES.get(name, f"{name}: see the terms of who published them")
        for name in sorted(datasets - set(SYNTHETIC))
    ]
    return (
        "The code is Apache-2.0. The weights were derived from images whose terms bind whoever uses them: "
        + "; ".join(terms)
        + "."
    )


def zoo_row(cfg: CfgNode, name: str, config_file: str, metrics: Mapping[str, float], pretrained: bool) -> str:
    """Return a model's row under :data:`ZOO_HEADER`; without metrics there were no test images."""
    label = f"{name} ({cfg.MODEL.META_ARCHITECTURE}, {backbone_of(cfg)})"
    shown = ("Rank-1", "mAP", "mINP")
    values = " | ".join(f"{metrics[metric]:.1f}%" if metrics else "-" for metric in shown)
    download = f"`zoo://{name}`"
    return f"| [{label}]({config_file}) | {'ImageNet' if pretrained else '-'} | {values} | {download} |"


def render_card(facts: dict[str, Any]) -> str:
    """Return the model card as Markdown.

    Args:
        facts: the names in ``templates/model_card.md.j2``, and ``results`` and ``programs``, metrics by stage
            and by format.

    Raises:
        jinja2.UndefinedError: if a fact is missing.
    """
    environment = Environment(
        loader=PackageLoader("nplp.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    cameras = facts["cameras"]
    names = [_in_table(name) for name in cameras] if cameras is not None else None
    tables = {
        "cameras": names,
        "results_table": format_results(facts["results"], markdown=True),
        "programs_table": _programs_table(facts["programs"]),
    }
    text = environment.get_template("model_card.md.j2").render({**facts, **tables})
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _in_table(name: str) -> str:
    """Return a camera's name, which may be any text, for a cell of a table."""
    return printable(" ".join(name.split())).replace("|", "\\|").replace("`", "'")


def _programs_table(programs: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            f"`{program['file']}`",
            f"{program['bytes'] / 1e6:.1f} MB",
            f"{program['cosine']:.6f}",
            *(f"{program[key]:.2f}" if key in program else "-" for key in ("Rank-1", "mAP")),
            f"{program['mAP loss']:+.2f}" if "mAP loss" in program else "-",
        ]
        for program in programs.values()
    ]
    headers = ["file", "size", "cosine", "Rank-1", "mAP", "lost mAP"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def card_facts(
    cfg: CfgNode, base: CfgNode, name: str, record: Mapping[str, Any], programs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a model card tells of the configuration and of what was measured.

    Args:
        cfg: the configuration of the training.
        base: the configuration file's own, that the card gives differences from.
        name: of the bundle.
        record: the content of ``results.json``.
        programs: what was found of the programs, by format.
    """
    target, tests = (", ".join(names) for names in (cfg.DATASETS.NAMES, cfg.DATASETS.TESTS))
    datasets, task, method = _training_of(cfg)
    height, width = cfg.INPUT.SIZE_TEST
    head = cfg.MODEL.HEADS
    pooling = f", PAP-{head.PAP}, {head.FUSION}" if cfg.MODEL.META_ARCHITECTURE == "NPLP" else ""
    differences = config_differences(cfg, base)
    return {
        "name": name,
        "folder": f"zoo/{name}",
        "task": task,
        "method": method,
        "architecture": f"{cfg.MODEL.BACKBONE.NAME} {cfg.MODEL.BACKBONE.DEPTH}{pooling}",
        "height": height,
        "width": width,
        "treatment": cfg.TEST.CAMERAS,
        "norm_cameras": cfg.MODEL.NORM_CAMERAS,
        "metric": f"{cfg.TEST.METRIC} distance of the vectors",
        "differences": {key: value for key, value in differences.items() if key not in OF_THE_MACHINE},
        "seed": record.get("seed", cfg.SEED),
        "versions": record.get("versions", {}),
        "tests": tests,
        "trained_on": target,
        "results": {stage: record[stage] for stage in STAGES if stage in record},
        "programs": programs,
        "calibration_images": CALIBRATION_IMAGES,
        "mean": [round(value, 3) for value in cfg.MODEL.PIXEL_MEAN],
        "std": [round(value, 3) for value in cfg.MODEL.PIXEL_STD],
        "licence": licence_of(datasets),
        "synthetic": datasets <= set(SYNTHETIC),
    }


def _training_of(cfg: CfgNode) -> tuple[set[str], str, str]:
    """Return the data sets that a model saw, its task and its method.

    Where training began from weights of others, what these saw is not known: they are named as such.
    """
    target = ", ".join(cfg.DATASETS.NAMES)
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture != "NPLP":
        return set(cfg.DATASETS.NAMES), f"{target}, supervised", f"the toolbox's {architecture}"
    start = f"{GIVEN_WEIGHTS}{Path(cfg.NPLP.SOURCE.WEIGHTS).name}" if cfg.NPLP.SOURCE.WEIGHTS else ""
    source = start or f"{', '.join(cfg.NPLP.SOURCE.DATASETS)} (labelled)"
    seen = {start} if start else set(cfg.NPLP.SOURCE.DATASETS)
    measured = cfg.TEST.CAMERAS != CAMERA_NONE or cfg.MODEL.NORM_CAMERAS
    pretraining = f"none: {start} as they are" if start else "NPLP's source pre-training alone"
    if cfg.NPLP.ITERATIONS == 0 and measured:
        method = f"{pretraining.removesuffix(' alone')}, with statistics of the target's cameras"
        return (
            {*cfg.DATASETS.NAMES, *seen},
            f"{source}, corrected for the cameras of {target} (unlabelled)",
            method,
        )
    if cfg.NPLP.ITERATIONS == 0:
        return seen, source.replace(" (labelled)", ", supervised"), pretraining
    additions = [
        words
        for words, wanted in (
            ("camera centring", cfg.NPLP.CAMERA_CENTERING),
            ("averaged weights", cfg.NPLP.EMA),
            ("statistics of cameras", measured),
        )
        if wanted
    ]
    ours = "NPLP: pseudo-labels by clustering, self-assessment and correction"
    method = ours if cfg.NPLP.METHOD == "nplp" else f"{cfg.NPLP.METHOD} (docs/methods.md)"
    if additions:
        method = f"{method}, with {' and '.join(additions)}"
    return {*cfg.DATASETS.NAMES, *seen}, f"{source} to {target} (unlabelled)", method
