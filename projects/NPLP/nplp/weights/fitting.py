"""How weights under other names, in other wrappings and with other heads become those of our model.

Nothing is guessed from shapes: a tensor is used where name and shape are the model's, after one renaming for
all tensors of a file. The renaming that makes most of them fit is taken.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nplp.errors import UserError
from nplp.weights.kinds import find_network, network_of, shapes_of
from nplp.weights.own_heads import BIAS, LINEAR, own_head
from nplp.weights.remedies import network_options_to_set, remedy_for

__all__ = ["NORMALISATION", "Fit", "find_tensors", "fit_weights", "without_wrappers"]

Tensors = dict[str, torch.Tensor]

BACKBONE = "backbone."
WRAPPED = ("backbone.network.", "network.")
"""Where a network lies that this project wraps: in a whole model, and in a backbone."""
COUNTER = "num_batches_tracked"
NORMALISATION = ("pixel_mean", "pixel_std")

CONTAINERS = (
    *("model", "state_dict", "model_state_dict", "model_state", "net", "network", "params", "weights"),
    *("module", "teacher", "model_ema", "state_dict_ema", "ema", "params_ema", "student"),
)
"""Entries under which trainers put the weights; the first that a file has is used."""

NO_WEIGHTS = re.compile(r"(?i).*(optim|sched|scaler|callback|loop|config|hyper_param|hparams|args)")
"""Entries beside the weights whose tensors belong to the training."""

WRAPPERS = re.compile(r"(^|\.)(?:module|_orig_mod)\.")
"""What DataParallel, DistributedDataParallel and torch.compile put into names."""

RENAMINGS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("", ()),
    (
        "torchvision's MobileNetV2",
        (
            (r"features\.18\.", "conv."),
            (r"(features\.1\.conv)\.1\.", r"\1.3."),
            (r"(features\.1\.conv)\.2\.", r"\1.4."),
            (r"(features\.\d+\.conv)\.0\.(\d)\.", r"\1.\2."),
            (r"(features\.\d+\.conv)\.1\.0\.", r"\1.3."),
            (r"(features\.\d+\.conv)\.1\.1\.", r"\1.4."),
            (r"(features\.(?!1\.)\d+\.conv)\.2\.", r"\1.6."),
            (r"(features\.(?!1\.)\d+\.conv)\.3\.(?!\d)", r"\1.7."),
        ),
    ),
    (
        "a ResNet as a sequence without its ReLU",
        (("0\\.", "conv1."), ("1\\.", "bn1."), *((f"{2 + s}\\.", f"layer{s}.") for s in range(1, 5))),
    ),
    (
        "a ResNet as a sequence",
        (("0\\.", "conv1."), ("1\\.", "bn1."), *((f"{3 + s}\\.", f"layer{s}.") for s in range(1, 5))),
    ),
    ("an old fastreid", ((r"(.*)heads\.bnneck\.", r"\1heads.bottleneck.0."),)),
)
"""Names that others give to the same network: in each name the first pattern that begins it is replaced."""

OTHER_HEAD = re.compile(
    r"(?:backbone\.)?(?:network\.)?(?:classifier|fc|head|feat|bottleneck|bnneck|embedding|projector|last_linear)\w*\.|"
    r"heads\.(?:weight$|(?:classifier|cls_layer|bottleneck|bnneck|pool_layer)\.)|"
    r"(?:backbone\.)?pixel_(?:mean|std)$"
)
"""Names of what follows a backbone in other models, and of their normalisation."""


@dataclass(frozen=True)
class Fit:
    """The weights of a file that a model takes.

    Attributes:
        weights: by the model's names, as the file has them.
        summary: one line: how many were used of how many, how they were named, what was left out and what
            keeps its initial values.
        complete: whether the file had every tensor that the model needs.
    """

    weights: Tensors
    summary: str
    complete: bool


@dataclass(frozen=True)
class _Renaming:
    """``family`` is in :data:`RENAMINGS`; ``removed`` is taken off each name and ``added`` put before it."""

    family: str = ""
    removed: str = ""
    added: str = ""

    def apply(self, names: Iterable[str]) -> dict[str, str]:
        """Return ``{name: new name}`` of those that begin with what is taken off."""
        rules = [(re.compile(old), new) for old, new in dict(RENAMINGS)[self.family]]
        renamed = {}
        for name in names:
            if not name.startswith(self.removed):
                continue
            new_name = name[len(self.removed) :]
            for pattern, replacement in rules:
                if pattern.match(new_name):
                    new_name = pattern.sub(replacement, new_name, count=1)
                    break
            renamed[name] = self.added + new_name
        return renamed


def fit_weights(
    content: Mapping[str, Any],
    expected: Tensors,
    source: str,
    *,
    optional: tuple[str, ...] = (),
    initial: tuple[str, ...] = (),
    normalisation: Tensors | None = None,
    measured: tuple[str, ...] = (),
    partial: bool = False,
    own_neck: bool = False,
    reshape: Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> Fit:
    """Return what of a file's content a model takes, or refuse it.

    Args:
        content: of a checkpoint: the tensors themselves or, beside other things, under one of
            :data:`CONTAINERS`.
        expected: the model's ``state_dict()``.
        source: the file, for messages.
        optional: prefixes of the model's names that are not loaded and may be missing or left over, such as
            those of the classifier of the source identities.
        initial: prefixes that are loaded, and keep their initial values where the file has none of them.
        normalisation: the model's ``pixel_mean`` and ``pixel_std``, which a file that has them must share.
        measured: prefixes of the model's names that are taken under these names and in any shape where the
            file has them, such as those of statistics of a number of cameras.
        partial: initial weights of a backbone: some may be missing or left over, but not all.
        own_neck: take another project's BN neck, and its fully connected layer, as the model's where they
            are of its sizes; the power of its pooling is taken wherever the model has one.
        reshape: gives the form in which the model takes a tensor, of its name, the file's and the model's.

    Raises:
        UserError: in one line, if the file holds no tensors or those of another network, if the model needs
            more or others than it has, if shapes differ, or if values are no finite numbers.
    """
    tensors, wrapping = find_tensors(content, source)
    stripped = without_wrappers(tensors, expected, source)
    taken = {key: stripped.pop(key) for key in list(stripped) if key.startswith(measured)}
    wanted = {key: value for key, value in expected.items() if not key.startswith((*optional, *measured))}
    renaming = _best_renaming(stripped, wanted)
    names = renaming.apply(stripped)
    head = own_head({new: stripped[old] for old, new in names.items()}, wanted, neck=own_neck)
    stripped.update({old: head[new][1] for old, new in names.items() if new in head})
    names = {old: head[new][0] if new in head else new for old, new in names.items()}
    renamed = {new: stripped[old] for old, new in names.items() if not new.startswith(optional)}
    used = {key: renamed[key] for key in wanted if key in renamed}
    if reshape is not None:
        used = {key: reshape(key, value, wanted[key]) for key, value in used.items()}
    untrained = tuple(prefix for prefix in initial if not any(key.startswith(prefix) for key in renamed))
    if any(ours == LINEAR for ours, _ in head.values()):
        # Other projects' layers may have none: it begins as zeros.
        untrained += (BIAS,)
    missing = [key for key in wanted if key not in renamed and not key.endswith(COUNTER)]
    needed = [key for key in missing if not key.startswith(untrained)]
    left = [key for key in stripped if names.get(key) not in used and not key.endswith(COUNTER)]
    _check_names(names, source)
    unknown = [
        names[key]
        for key in left
        # One number without a dot in its name is a score or a count.
        if key in names
        and not names[key].startswith(optional)
        and not OTHER_HEAD.match(names[key])
        and ("." in key or stripped[key].numel() > 1)
    ]
    _check_network({key: stripped[key] for key in names}, wanted, used, source, partial)
    problems = [
        *([] if partial else [f"it lacks {key!r}" for key in sorted(needed)]),
        *([] if partial else [f"it has {key!r}, which the model has not" for key in sorted(unknown)]),
        *(
            f"{key!r} is {tuple(value.shape)} in the file and {tuple(wanted[key].shape)} in the model"
            for key, value in used.items()
            if value.shape != wanted[key].shape
        ),
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        shapes = ({n: tuple(stripped[o].shape) for o, n in names.items()}, shapes_of(wanted))
        remedy = remedy_for([] if partial else needed, *shapes)
        raise UserError(f"{source!r} does not fit this configuration's model: {problems[0]}{more}: {remedy}")
    _check_values(used, wanted, source)
    _check_values(taken, taken, source)
    _check_normalisation(stripped, normalisation or {}, source)
    described = [
        *wrapping,
        *_describe_names({**stripped, **taken}, tensors, renaming),
        *([f"its own head kept as {_listed([ours for ours, _ in head.values()], {})}"] if head else []),
        *_describe_types(used),
    ]
    summary = (
        f"Loaded {len(used) + len(taken)} of {len(tensors)} tensors from {source}"
        + (f" ({'; '.join(described)})" if described else "")
        + (f"; left out: {_listed(left, stripped)}" if left else "")
        + (f"; not in the file, initial values stay: {_listed(missing, expected)}" if missing else "")
    )
    used = {**used, **taken}
    return Fit({key: value.detach() for key, value in used.items()}, summary, complete=not missing)


def find_tensors(content: Mapping[str, Any], source: str) -> tuple[Tensors, list[str]]:
    """Return a checkpoint's tensors by name, and under which entry they were.

    Raises:
        UserError: if there are none.
    """
    notes: list[str] = []
    while holders := [name for name in CONTAINERS if _holds_tensors(content.get(name))]:
        others = f", not {', '.join(map(repr, holders[1:]))}" if holders[1:] else ""
        notes.append(f"under {holders[0]!r}{others}")
        content = content[holders[0]]
    tensors = _flat(content)
    if not tensors:
        entries = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise UserError(
            f"{source!r} holds no weights, but {entries}: give a file with a model's state_dict()"
        )
    return tensors, notes


def _holds_tensors(entry: object) -> bool:
    return isinstance(entry, Mapping) and bool(_flat(entry))


def _flat(content: Mapping[Any, Any], prefix: str = "") -> Tensors:
    """Return the tensors of nested dictionaries under dotted names, without those of the training."""
    tensors: Tensors = {}
    for key, value in content.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, torch.Tensor):
            tensors[prefix + key] = value
        elif isinstance(value, Mapping) and not NO_WEIGHTS.match(key):
            tensors.update(_flat(value, f"{prefix}{key}."))
    return tensors


def without_wrappers(tensors: Tensors, expected: Tensors, source: str) -> Tensors:
    """Return the tensors without the names of wrappers, which the model's own names may contain."""
    if any(WRAPPERS.search(key) for key in expected):
        return tensors
    stripped: Tensors = {}
    for key, value in tensors.items():
        name = key
        while WRAPPERS.search(name):
            name = WRAPPERS.sub(r"\1", name)
        if name in stripped and not torch.equal(stripped[name], value):
            raise UserError(f"{source!r} has two different tensors for {name!r}: give a file with one model")
        stripped[name] = value
    return stripped


def _best_renaming(tensors: Tensors, wanted: Tensors) -> _Renaming:
    """Return the renaming that gives most tensors a name of the model, then its shape too."""
    shapes = {key: value.shape for key, value in wanted.items() if not key.endswith(COUNTER)}
    counts: dict[str, int] = {"": 0}
    for key in tensors:
        parts = key.split(".")
        for depth in range(1, min(4, len(parts))):
            prefix = ".".join(parts[:depth]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    enough = len(tensors) / 8
    removed = [prefix for prefix, count in counts.items() if count >= enough or not prefix]
    added = ["", *(p for p in (BACKBONE, *WRAPPED) if any(key.startswith(p) for key in wanted))]
    best, best_score = _Renaming(), (0, 0)
    for family, _ in RENAMINGS:
        for prefix in removed:
            for start in added:
                renaming = _Renaming(family, prefix, start)
                pairs = [(o, n) for o, n in renaming.apply(tensors).items() if n in shapes]
                # Names first: shapes agree by chance between layers of one network.
                score = (len(pairs), sum(tensors[old].shape == shapes[new] for old, new in pairs))
                if score > best_score:
                    best, best_score = renaming, score
                if min(best_score) == len(shapes):
                    return best
    return best


def _check_names(names: Mapping[str, str], source: str) -> None:
    """Refuse a file of which two tensors get one name."""
    first: dict[str, str] = {}
    for old, new in names.items():
        if first.setdefault(new, old) != old:
            raise UserError(f"{source!r} has both {first[new]!r} and {old!r}: give a file with one model")


def _check_network(tensors: Tensors, wanted: Tensors, used: Tensors, source: str, partial: bool) -> None:
    """Refuse another network, and a file of which nothing fits, or less than half where part is enough."""
    there, here = (find_network(shapes_of(them)) for them in (tensors, wanted))
    held, asked = there.name if there else "", here.name if here else ""
    if partial:
        # Blocks that a network has beside its usual ones keep their initial values.
        held, asked = (name.partition(" with ")[0] for name in (held, asked))
    start = f"{source!r} does not fit this configuration's model"
    choose = network_options_to_set(there, here)
    if held and asked and held != asked:
        raise UserError(f"{start}: it holds {held}, the configuration asks for {asked}: {choose}")
    fitting, needed = (sum(not key.endswith(COUNTER) for key in names) for names in (used, wanted))
    if not fitting or (partial and 2 * fitting < needed):
        examples = f"{held or 'an unknown network'}, {_listed(list(tensors)[:2], tensors)}"
        raise UserError(
            f"{start}: {fitting or 'none'} of the {needed} tensors of {asked or 'the model'} are in it "
            f"({examples}): {choose}"
        )


def _check_values(used: Tensors, wanted: Tensors, source: str) -> None:
    """Refuse values that the model's type cannot hold, and those that are no finite numbers."""
    for key, value in used.items():
        if key.endswith(COUNTER):
            continue
        if value.is_quantized or value.is_floating_point() != wanted[key].is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(
                f"{source!r} holds {key!r} as {kind}: give the weights before they were quantised"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(
                f"{source!r} holds values in {key!r} that are infinite or not numbers: its training had "
                "failed, give another file"
            )


def _check_normalisation(tensors: Tensors, normalisation: Tensors, source: str) -> None:
    """Refuse weights of a model that saw images of other means or scales than this one shows it."""
    for name in NORMALISATION:
        saved = next((v for k, v in tensors.items() if k == name or k.endswith(f".{name}")), None)
        ours = normalisation.get(name)
        if saved is None or ours is None:
            continue
        there, here = saved.flatten().double().tolist(), ours.flatten().double().tolist()
        if len(there) != len(here) or any(
            abs(a - b) > 1e-3 * abs(b) for a, b in zip(there, here, strict=True)
        ):
            values = ", ".join(f"{value:.6g}" for value in there)
            raise UserError(
                f"{source!r} was trained with {name} [{values}], the configuration has "
                f"[{', '.join(f'{value:.6g}' for value in here)}]: set MODEL.{name.upper()} to the former"
            )


def _describe_names(stripped: Tensors, tensors: Tensors, renaming: _Renaming) -> list[str]:
    """Return how the file named its tensors, where that differs from the model's names."""
    notes = []
    if stripped.keys() != tensors.keys():
        notes.append("'module.' taken off")
    if renaming.removed:
        notes.append(f"{renaming.removed!r} taken off")
    family = renaming.family
    if not family and renaming.added:
        network = network_of(shapes_of(stripped))
        owner = {"OSNet": "torchreid's ", "ResNet": "torchvision's "}.get(re.split("[- ]", network)[0], "")
        family = f"{owner}{network}" if network else "a backbone alone"
    if family:
        notes.append(f"names of {family}")
    return notes


def _describe_types(used: Tensors) -> list[str]:
    """Return the types of numbers other than float32, which become the model's."""
    types = {value.dtype for value in used.values() if value.is_floating_point()} - {torch.float32}
    return [str(kind).removeprefix("torch.") for kind in sorted(types, key=str)]


def _listed(names: Iterable[str], tensors: Tensors, limit: int = 6) -> str:
    """Return names in groups, such as "heads.neck.* (5), classifier.weight (751 identities)"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        depth = 2 if parts[0] + "." in (BACKBONE, "heads.") else 1
        groups.setdefault(".".join(parts[:depth]), []).append(name)
    texts = []
    for group, members in groups.items():
        value = tensors.get(members[0])
        identities = ""
        if (
            value is not None
            and value.dim() == 2
            and re.search(r"classifier|cls_layer|heads\.weight", members[0])
        ):
            identities = f" ({value.shape[0]} identities)"
        if len(members) == 1:
            texts.append(members[0] + identities)
        else:
            texts.append(f"{group}.*{identities or f' ({len(members)})'}")
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
