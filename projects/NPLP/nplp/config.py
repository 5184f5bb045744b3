"""The configuration keys that NPLP adds to the toolbox's, and their validation."""

from dataclasses import fields

import torch
from fastreid.config import CfgNode

from nplp.data.samplers import SAMPLERS
from nplp.data.synthetic import DomainStyle
from nplp.errors import UserError

__all__ = ["add_nplp_config", "source_config", "validate_config"]

DISTANCES = ("jaccard", "euclidean")
METRICS = ("euclidean", "cosine")
LEAST_PIXELS = 16
"""The backbones' feature maps are a sixteenth as high and wide as their images."""


def add_nplp_config(cfg: CfgNode) -> None:
    """Add NPLP's keys, with the paper's settings as defaults, to a toolbox configuration in place."""
    # Seed of every random generator (python, numpy, torch, loader workers).
    cfg.SEED = 0
    # The toolbox's default is "cuda" everywhere; here it is what this machine has.
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    _add_model_keys(cfg)
    _add_data_keys(cfg)
    _add_method_keys(cfg)
    _add_source_keys(cfg)


def _add_model_keys(cfg: CfgNode) -> None:
    # I of PAP-I: granularity i gives i stripes, so f_c has I(I+1)/2 x C values (section III-D a).
    cfg.MODEL.HEADS.PAP = 2
    # How f_c becomes f_e: "hn", one fully connected layer of MODEL.HEADS.EMBEDDING_DIM (the toolbox's
    # key) outputs, or "concat", f_e = f_c (DC in Table II).
    cfg.MODEL.HEADS.FUSION = "hn"

    # Eq. 1 sums over the batch; "mean" keeps the scale independent of the batch's size.
    cfg.MODEL.LOSSES.TRI.REDUCTION = "mean"

    cfg.MODEL.LOSSES.CC = CfgNode()
    # L2-normalise f_r and the lookup table V; the literal form (False) diverges.
    cfg.MODEL.LOSSES.CC.NORMALIZE = True
    # Logits are divided by this in the normalised form.
    cfg.MODEL.LOSSES.CC.TEMPERATURE = 0.1
    # Eq. 11, V_i <- (V_i + f_r) / 2, in the backward pass.
    cfg.MODEL.LOSSES.CC.UPDATE = True


def _add_data_keys(cfg: CfgNode) -> None:
    # Decode every training image once before training and stop with the list of unreadable ones.
    cfg.DATASETS.VERIFY = True
    # Leave unreadable training images out instead of stopping; they are counted in the log.
    cfg.DATASETS.SKIP_CORRUPT = False
    # The built-in synthetic domains (SynthPlaza, SynthStation), rendered once into a cache folder.
    cfg.DATASETS.SYNTHETIC = CfgNode()
    cfg.DATASETS.SYNTHETIC.TRAIN_IDENTITIES = 96
    cfg.DATASETS.SYNTHETIC.TEST_IDENTITIES = 96
    cfg.DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY = 16
    cfg.DATASETS.SYNTHETIC.CAMERAS = 6
    # Height and width of the rendered crops, in pixels.
    cfg.DATASETS.SYNTHETIC.IMAGE_SIZE = [128, 64]
    # How hard they are, in both domains: the fields of nplp.data.synthetic.DomainStyle, explained there.
    style = {field.name.upper(): getattr(DomainStyle(), field.name) for field in fields(DomainStyle)}
    cfg.DATASETS.SYNTHETIC.STYLE = CfgNode(style)
    # Seed of the drawings; independent of SEED, so that seeds compare runs on the same pictures.
    cfg.DATASETS.SYNTHETIC.SEED = 0
    # Cache folder; empty: NPLP_CACHE from the environment, else ~/.cache/nplp.
    cfg.DATASETS.SYNTHETIC.ROOT = ""


def _add_method_keys(cfg: CfgNode) -> None:
    cfg.NPLP = CfgNode()
    # N, the total number of iterations; 0 stops after the direct transfer. Unstated in the paper: 30 as
    # in UDA and SSG.
    cfg.NPLP.ITERATIONS = 30
    # I_e, iterations at the startup stage; the correcting stage begins at I_e + 1.
    cfg.NPLP.STARTUP_ITERATIONS = 15
    # E, epochs of each iteration. Unstated in the paper: 30 x 3 epochs of Market-1501 are about 18,000
    # steps of 64 images, the budget of MMT.
    cfg.NPLP.EPOCHS_PER_ITERATION = 3
    # Steps of an epoch; 0: as many batches as the clustered images fill.
    cfg.NPLP.STEPS_PER_EPOCH = 0
    # Evaluate every so many iterations; 0: only at the end of the startup stage and at the end.
    cfg.NPLP.EVAL_PERIOD = 1

    # alpha of eq. 4, the share of cross-camera pairs averaged for epsilon_e. The paper's 0.0012 is
    # 0.9 / 751 for Market-1501's identities; a target with other numbers needs about 0.9 / identities.
    cfg.NPLP.ALPHA = 0.0012
    # beta of eq. 9, epsilon_c = beta epsilon_e.
    cfg.NPLP.BETA = 0.5
    # Share of the clusters, those with the lowest self-assessment scores, that are clustered again.
    cfg.NPLP.NOISY_FRACTION = 0.1
    # DBSCAN's min_samples; not in the paper, 4 in its peers.
    cfg.NPLP.MIN_SAMPLES = 4
    # Distance of eq. 4 and DBSCAN: "jaccard" (k-reciprocal, as the method's peers) or "euclidean".
    cfg.NPLP.DISTANCE = "jaccard"
    # Distance of eqs. 6-8; empty: the same. The literal reading is "euclidean".
    cfg.NPLP.ASSESSMENT_DISTANCE = ""
    # k1 and k2 of the Jaccard distance.
    cfg.NPLP.K1 = 20
    cfg.NPLP.K2 = 6
    # L2-normalise f_e before the pseudo-label stage.
    cfg.NPLP.NORMALIZE = True
    # "iteration": eq. 4 in every iteration (Algorithm 1); "first": epsilon_e of the first one is kept.
    cfg.NPLP.EPSILON_UPDATE = "iteration"
    # A noisy cluster that dissolves entirely when clustered again is dropped ("drop") or kept ("keep").
    cfg.NPLP.DISSOLVED = "drop"

    _add_rule_keys(cfg)

    # Two additions to the paper, off by default. Subtract each camera's mean feature before any distance
    # of the pseudo-label stage:
    cfg.NPLP.CAMERA_CENTERING = False
    # Keep an exponential moving average of the weights, evaluated and saved beside the last ones:
    cfg.NPLP.EMA = False
    # What the average keeps of itself at each step.
    cfg.NPLP.EMA_DECAY = 0.999


def _add_rule_keys(cfg: CfgNode) -> None:
    # What is done where an iteration's pseudo-labels are such that the paper says nothing: see
    # docs/degenerate_clusterings.md. Each rule is logged and is in pseudo_labels.jsonl when it acts.
    cfg.NPLP.RULES = CfgNode()
    # Fewer than two clusters, which teach nothing: "keep" the labels of the iteration before, or "stop".
    cfg.NPLP.RULES.NO_CLUSTER = "keep"
    # A cluster of GIANT_SHARE of all images or more: "lower" epsilon by a tenth at a time until there
    # is none, "off" to train on it as it is, or "stop".
    cfg.NPLP.RULES.GIANT_CLUSTER = "lower"
    cfg.NPLP.RULES.GIANT_SHARE = 0.3
    # All self-assessment scores equal: "skip" the correction, or correct the first clusters in "order".
    cfg.NPLP.RULES.EQUAL_SCORES = "skip"
    # Fewer clusters than P: "repeat" clusters within a batch, or "stop".
    cfg.NPLP.RULES.FEW_CLUSTERS = "repeat"
    # Clusters of fewer than K images: "repeat" images within a batch, or "drop" the clusters.
    cfg.NPLP.RULES.SMALL_CLUSTERS = "repeat"
    # "report" and go on, or "stop": more than 55% outliers; an epsilon of 0 or beyond images that have
    # nothing in common; ten times more or fewer clusters than in the iteration before; features ten times
    # as long as at first, or a logit of over 100.
    cfg.NPLP.RULES.MANY_OUTLIERS = "report"
    cfg.NPLP.RULES.EPSILON = "report"
    cfg.NPLP.RULES.SIZE_CHANGE = "report"
    cfg.NPLP.RULES.EXPLOSION = "report"


RULE_ACTIONS = {
    "NO_CLUSTER": ("keep", "stop"),
    "GIANT_CLUSTER": ("lower", "off", "stop"),
    "EQUAL_SCORES": ("skip", "order"),
    "FEW_CLUSTERS": ("repeat", "stop"),
    "SMALL_CLUSTERS": ("repeat", "drop"),
    "MANY_OUTLIERS": ("report", "stop"),
    "EPSILON": ("report", "stop"),
    "SIZE_CHANGE": ("report", "stop"),
    "EXPLOSION": ("report", "stop"),
}


def _add_source_keys(cfg: CfgNode) -> None:
    # Supervised pre-training, CamStyle's recipe plus the triplet loss of eq. 3. Keys that SOLVER has too
    # replace it while pre-training.
    cfg.NPLP.SOURCE = CfgNode()
    cfg.NPLP.SOURCE.DATASETS = ("DukeMTMC",)
    # Weights of a finished pre-training; empty: pre-train into OUTPUT_DIR/source.
    cfg.NPLP.SOURCE.WEIGHTS = ""
    cfg.NPLP.SOURCE.MAX_EPOCH = 50
    cfg.NPLP.SOURCE.IMS_PER_BATCH = 128
    cfg.NPLP.SOURCE.NUM_INSTANCE = 4
    cfg.NPLP.SOURCE.OPT = "SGD"
    cfg.NPLP.SOURCE.BASE_LR = 0.01
    # 0.1 for the new layers, 0.01 for the pre-trained backbone.
    cfg.NPLP.SOURCE.HEADS_LR_FACTOR = 10.0
    cfg.NPLP.SOURCE.NESTEROV = True
    cfg.NPLP.SOURCE.STEPS = [40]
    cfg.NPLP.SOURCE.GAMMA = 0.1
    cfg.NPLP.SOURCE.WARMUP_ITERS = 0


def source_config(cfg: CfgNode) -> CfgNode:
    """Return the configuration of the supervised pre-training (eq. 3) that ``cfg`` asks for.

    ``NPLP.SOURCE`` replaces the keys of the same name in ``SOLVER``; the losses become eq. 2 and eq. 1;
    the output goes to ``OUTPUT_DIR/source``.
    """
    source = cfg.clone()
    source.defrost()
    for key, value in cfg.NPLP.SOURCE.items():
        if key in source.SOLVER:
            source.SOLVER[key] = value
    source.DATALOADER.NUM_INSTANCE = cfg.NPLP.SOURCE.NUM_INSTANCE
    source.DATASETS.NAMES = cfg.NPLP.SOURCE.DATASETS
    source.MODEL.LOSSES.NAME = ("CrossEntropyLoss", "TripletLoss")
    source.TEST.EVAL_PERIOD = 0
    source.OUTPUT_DIR = f"{cfg.OUTPUT_DIR.rstrip('/')}/source"
    source.freeze()
    return source


def validate_config(cfg: CfgNode) -> None:
    """Check the values of NPLP's keys.

    Raises:
        UserError: naming the first key whose value is out of its range, the range and the value.
    """
    nplp, heads, losses = cfg.NPLP, cfg.MODEL.HEADS, cfg.MODEL.LOSSES
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    rules = [
        ("NPLP.ITERATIONS", nplp.ITERATIONS, nplp.ITERATIONS >= 0, "at least 0"),
        ("NPLP.STARTUP_ITERATIONS", nplp.STARTUP_ITERATIONS, nplp.STARTUP_ITERATIONS >= 0, "at least 0"),
        (
            "NPLP.EPOCHS_PER_ITERATION",
            nplp.EPOCHS_PER_ITERATION,
            nplp.EPOCHS_PER_ITERATION >= 1,
            "at least 1",
        ),
        ("NPLP.STEPS_PER_EPOCH", nplp.STEPS_PER_EPOCH, nplp.STEPS_PER_EPOCH >= 0, "at least 0"),
        ("NPLP.EVAL_PERIOD", nplp.EVAL_PERIOD, nplp.EVAL_PERIOD >= 0, "at least 0"),
        ("NPLP.ALPHA", nplp.ALPHA, 0 < nplp.ALPHA <= 1, "in (0, 1]"),
        ("NPLP.BETA", nplp.BETA, 0 < nplp.BETA <= 1, "in (0, 1]"),
        ("NPLP.NOISY_FRACTION", nplp.NOISY_FRACTION, 0 < nplp.NOISY_FRACTION <= 1, "in (0, 1]"),
        ("NPLP.MIN_SAMPLES", nplp.MIN_SAMPLES, nplp.MIN_SAMPLES >= 1, "at least 1"),
        ("NPLP.DISTANCE", nplp.DISTANCE, nplp.DISTANCE in DISTANCES, f"one of {DISTANCES}"),
        (
            "NPLP.ASSESSMENT_DISTANCE",
            nplp.ASSESSMENT_DISTANCE,
            nplp.ASSESSMENT_DISTANCE in ("", *DISTANCES),
            f"empty or one of {DISTANCES}",
        ),
        ("NPLP.K1", nplp.K1, nplp.K1 >= 1, "at least 1"),
        ("NPLP.K2", nplp.K2, 1 <= nplp.K2 <= nplp.K1, "between 1 and NPLP.K1"),
        (
            "NPLP.EPSILON_UPDATE",
            nplp.EPSILON_UPDATE,
            nplp.EPSILON_UPDATE in ("iteration", "first"),
            "'iteration' or 'first'",
        ),
        ("NPLP.DISSOLVED", nplp.DISSOLVED, nplp.DISSOLVED in ("drop", "keep"), "'drop' or 'keep'"),
        *(
            (f"NPLP.RULES.{rule}", nplp.RULES[rule], nplp.RULES[rule] in actions, f"one of {actions}")
            for rule, actions in RULE_ACTIONS.items()
        ),
        (
            "NPLP.RULES.GIANT_SHARE",
            nplp.RULES.GIANT_SHARE,
            0 < nplp.RULES.GIANT_SHARE <= 1,
            "in (0, 1]",
        ),
        ("NPLP.EMA_DECAY", nplp.EMA_DECAY, 0 <= nplp.EMA_DECAY < 1, "in [0, 1)"),
        ("NPLP.SOURCE.MAX_EPOCH", nplp.SOURCE.MAX_EPOCH, nplp.SOURCE.MAX_EPOCH >= 1, "at least 1"),
        ("MODEL.HEADS.PAP", heads.PAP, heads.PAP >= 1, "at least 1"),
        ("MODEL.HEADS.FUSION", heads.FUSION, heads.FUSION in ("hn", "concat"), "'hn' or 'concat'"),
        (
            "MODEL.LOSSES.TRI.REDUCTION",
            losses.TRI.REDUCTION,
            losses.TRI.REDUCTION in ("mean", "sum"),
            "'mean' or 'sum'",
        ),
        ("MODEL.LOSSES.CC.TEMPERATURE", losses.CC.TEMPERATURE, losses.CC.TEMPERATURE > 0, "above 0"),
        *_general_rules(cfg),
        ("DATALOADER.SAMPLER_TRAIN", sampler, sampler in SAMPLERS, f"one of {SAMPLERS}"),
    ]
    for key, value, holds, rule in rules:
        if not holds:
            raise UserError(f"{key} must be {rule}, got {value!r}")
    _validate_batches(cfg)
    _validate_device(cfg)


def _general_rules(cfg: CfgNode) -> list[tuple[str, object, bool, str]]:
    """Return key, value, whether it holds and the rule, of the toolbox's keys that fail late or obscurely."""
    inputs = [(key, tuple(cfg.INPUT[key])) for key in ("SIZE_TRAIN", "SIZE_TEST")]
    rates = [("SOLVER.BASE_LR", cfg.SOLVER.BASE_LR), ("NPLP.SOURCE.BASE_LR", cfg.NPLP.SOURCE.BASE_LR)]
    return [
        ("SEED", cfg.SEED, cfg.SEED >= 0, "at least 0"),
        ("SOLVER.OPT", cfg.SOLVER.OPT, hasattr(torch.optim, cfg.SOLVER.OPT), "a class of torch.optim"),
        ("TEST.METRIC", cfg.TEST.METRIC, cfg.TEST.METRIC in METRICS, f"one of {METRICS}"),
        ("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH, cfg.TEST.IMS_PER_BATCH >= 1, "at least 1"),
        (
            "DATALOADER.NUM_WORKERS",
            cfg.DATALOADER.NUM_WORKERS,
            cfg.DATALOADER.NUM_WORKERS >= 0,
            "at least 0",
        ),
        *((key, rate, rate > 0, "above 0") for key, rate in rates),
        *(
            (
                f"INPUT.{key}",
                size,
                len(size) == 2 and min(size) >= LEAST_PIXELS,
                "height and width from 16 on",
            )
            for key, size in inputs
        ),
    ]


def _validate_batches(cfg: CfgNode) -> None:
    batches = (
        (
            "SOLVER.IMS_PER_BATCH",
            cfg.SOLVER.IMS_PER_BATCH,
            "DATALOADER.NUM_INSTANCE",
            cfg.DATALOADER.NUM_INSTANCE,
        ),
        (
            "NPLP.SOURCE.IMS_PER_BATCH",
            cfg.NPLP.SOURCE.IMS_PER_BATCH,
            "NPLP.SOURCE.NUM_INSTANCE",
            cfg.NPLP.SOURCE.NUM_INSTANCE,
        ),
    )
    for batch_key, batch, instance_key, instances in batches:
        if instances < 1 or batch < instances or batch % instances:
            raise UserError(
                f"{batch_key} must be a positive multiple of {instance_key} (P x K images), "
                f"got {batch} and {instances}"
            )


def _validate_device(cfg: CfgNode) -> None:
    device = str(cfg.MODEL.DEVICE)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"MODEL.DEVICE is {device!r}, but this machine has no CUDA device: set MODEL.DEVICE cpu"
        )
    if not device.startswith(("cuda", "cpu")):
        raise UserError(f"MODEL.DEVICE must be 'cpu' or 'cuda', got {device!r}")
