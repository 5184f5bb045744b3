"""The record of a run: its results, the history of its iterations and the seconds of its stages."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from fastreid.utils import comm
from tabulate import tabulate

import nplp
from nplp.circumstances import package_versions
from nplp.config.dotted import flat
from nplp.engine.output_folder import CAMERA_PAIRS, HISTORY, RESULTS
from nplp.engine.verdict import last_verdict
from nplp.evaluation.evaluator import reranking_of
from nplp.files import write_atomically
from nplp.metric_names import METRICS, STAGES

__all__ = ["RunRecord", "config_differences", "format_results", "versions_of_results"]

REPORTED_PACKAGES = ("fastreid", "torch", "torchvision", "numpy", "scikit-learn")


@dataclass
class RunRecord:
    """The results so far; it is part of every checkpoint, so a resume rewrites the files from it.

    Attributes:
        results: metrics in percent by stage: ``direct_transfer``, ``startup``, ``final``, ``final_ema``.
        history: a plain dictionary an iteration, the lines of ``pseudo_labels.jsonl``.
        seconds: seconds by activity, summed over resumes.
        queries: by test set, how many queries count in the metrics; known anew at each start.
        stopped: after which ``iteration`` of how many ``planned`` NPLP.STOP ended the run, and the
            ``agreement`` of its labels with those before; empty where it did not.
        camera_pairs: by stage and test set, metrics by pairs of cameras, the content of
            ``camera_pairs.json``; empty without TEST.BY_CAMERA.
        source_sum: SHA-256 sum of the weights that the adaptation began with; empty where unknown.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    queries: dict[str, dict[str, Any]] = field(default_factory=dict)
    camera_pairs: dict[str, dict[str, Any]] = field(default_factory=dict)
    source_sum: str = ""
    stopped: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        """Add the time of the block to ``seconds[activity]``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] = self.seconds.get(activity, 0.0) + time.perf_counter() - start

    def state_dict(self) -> dict[str, Any]:
        """Return the record as plain containers."""
        return {
            "results": self.results,
            "history": self.history,
            "seconds": self.seconds,
            **({"camera_pairs": self.camera_pairs} if self.camera_pairs else {}),
            "source_sum": self.source_sum,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the record by a saved one."""
        self.results = dict(state["results"])
        self.history = list(state["history"])
        self.seconds = dict(state["seconds"])
        self.camera_pairs = dict(state.get("camera_pairs", {}))
        self.source_sum = str(state.get("source_sum", ""))
        self.stopped = dict(state.get("stopped", {}))

    def write(self, cfg: CfgNode, base: CfgNode) -> None:
        """Write ``results.json`` and ``pseudo_labels.jsonl`` into ``OUTPUT_DIR``, on the main process.

        With metrics by pairs of cameras ``camera_pairs.json`` too.

        Args:
            cfg: the run's configuration.
            base: the configuration that ``config`` in ``results.json`` gives the differences from.
        """
        if not comm.is_main_process():
            return
        reranking = reranking_of(cfg)
        content = {
            **self.results,
            **({"verdict": verdict.entry()} if (verdict := last_verdict(self.history)) else {}),
            **({"re-ranked": asdict(reranking)} if reranking else {}),
            **({"stopped": self.stopped} if self.stopped else {}),
            "queries": self.queries,
            "seed": cfg.SEED,
            "seconds": {key: round(value, 2) for key, value in self.seconds.items()},
            "versions": versions_of_results(),
            "config": config_differences(cfg, base),
        }
        folder = Path(cfg.OUTPUT_DIR)
        pairs = {stage: sets for stage, sets in self.camera_pairs.items() if sets and stage in self.results}
        if pairs:
            write_atomically(folder / CAMERA_PAIRS, json.dumps(pairs) + "\n")
        write_atomically(folder / RESULTS, json.dumps(content, indent=2) + "\n")
        lines = "".join(json.dumps(line) + "\n" for line in self.history)
        write_atomically(folder / HISTORY, lines)


def versions_of_results() -> dict[str, str | None]:
    """Return the versions of this package, python and what results depend on."""
    return {"nplp": nplp.__version__, **package_versions(REPORTED_PACKAGES)}


def config_differences(cfg: CfgNode, base: CfgNode) -> dict[str, Any]:
    """Return ``{dotted key: value}`` for each key of ``cfg`` whose value differs from ``base``'s."""
    values_of_base = flat(base)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in flat(cfg).items()
        if value != values_of_base[key]
    }


def format_results(results: Mapping[str, Mapping[str, float]], markdown: bool = False) -> str:
    """Return the table of a run: a row a stage, the metrics in percent."""
    rows = [
        [title, *(f"{results[stage][metric]:.2f}" for metric in METRICS)]
        for stage, title in STAGES.items()
        if stage in results
    ]
    style = "github" if markdown else "simple"
    return tabulate(rows, ["", *METRICS], style, floatfmt=".2f", disable_numparse=markdown)
