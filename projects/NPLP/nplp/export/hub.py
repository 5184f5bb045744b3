"""A bundle as the Hugging Face hub expects it: the same files, and a model card that begins with metadata."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from nplp.config.bundles import parse_configuration
from nplp.errors import UserError, in_one_line
from nplp.metric_names import METRICS
from nplp.weights.remote_zoo import hub_library
from nplp.weights.zoo import CARD, CONFIG, Bundle, write_sums

__all__ = ["card_metadata", "push_bundle", "write_for_hub"]

OWN_LICENCE = "\n## Licence\n\nApache-2.0,"
"""How the card's section begins where images of others had no part in the weights."""
MARK = "---\n"


def card_metadata(bundle: Bundle) -> dict[str, Any]:
    """Return what the hub reads of a model card: licence, task, tags, and the results of ``results.json``.

    Raises:
        UserError: if a file of the bundle is missing or altered.
    """
    cfg = parse_configuration(bundle.text(CONFIG))
    own = OWN_LICENCE in bundle.text(CARD)
    licence = {"license": "apache-2.0"} if own else {"license": "other", "license_name": "see-the-card"}
    final = bundle.results().get("final")
    task = {"type": "image-feature-extraction", "name": "person re-identification"}
    results = [
        {
            "task": task,
            "dataset": {"type": name.lower(), "name": name},
            "metrics": [
                {"type": metric.lower(), "name": metric, "value": final[metric]} for metric in METRICS
            ],
        }
        for name in cfg.DATASETS.TESTS
        if final
    ]
    return {
        **licence,
        "library_name": "nplp",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["person-re-identification", "unsupervised-domain-adaptation", "pytorch", "fastreid"],
        **({"model-index": [{"name": bundle.name, "results": results}]} if results else {}),
    }


def write_for_hub(bundle: Bundle, output: Path) -> Path:
    """Write a bundle with metadata in its card, and its sums anew, to a folder; return the folder.

    Raises:
        UserError: if the folder is there, or a file of the bundle is missing or altered.
    """
    if output.exists():
        raise UserError(f"--output {str(output)!r} exists: name a folder that is new")
    metadata = card_metadata(bundle)
    paths = [bundle.path(file) for file in bundle.sums]
    card = bundle.text(CARD)
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for path in paths:
            shutil.copyfile(path, part / path.name)
        (part / CARD).write_text(f"{MARK}{head}{MARK}\n{card}", encoding="utf-8", newline="\n")
        write_sums(part)
        part.rename(output)
    except OSError as error:
        raise UserError(
            f"{str(output)!r} cannot be written ({error.strerror}): name another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output


def push_bundle(folder: Path, repository: str, private: bool = False) -> str:
    """Upload a folder that :func:`write_for_hub` wrote, as one commit; return its address.

    Args:
        folder: with what is uploaded.
        repository: ``OWNER/NAME`` on the hub; it is made where it is missing.
        private: whether a new one is hidden from others.

    Raises:
        UserError: if the library is missing, or the hub says no.
    """
    library = hub_library()
    try:
        api = library.HfApi()
        api.create_repo(repo_id=repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            folder_path=str(folder), repo_id=repository, commit_message=f"Publish {folder.resolve().name}"
        )
    except Exception as error:
        raise UserError(
            f"{repository!r} on the hub did not take the bundle ({in_one_line(error)}): log in with "
            f"'hf auth login', or upload {str(folder)!r} by hand"
        ) from error
    return str(commit)
