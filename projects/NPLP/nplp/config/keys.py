"""The configuration keys that NPLP adds to the toolbox's."""

import functools
from dataclasses import fields
from typing import Any

import torch
from fastreid.config import CfgNode, get_cfg

from nplp_synthetic import DomainStyle

__all__ = ["add_nplp_config", "default_config", "source_config", "value_of"]


def default_config() -> CfgNode:
    """Return the toolbox's configuration with NPLP's keys, all at their defaults."""
    cfg = get_cfg()
    add_nplp_config(cfg)
    return cfg


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return what a configuration has under a dotted key, such as ``NPLP.ALPHA``.

    Raises:
        KeyError: if there is no such key.
    """
    return functools.reduce(lambda node, name: node[name], key.split("."), cfg)


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
    # How hard they are, in both domains: the fields of nplp_synthetic.DomainStyle, explained there.
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

    # Write OUTPUT_DIR/report.html at the end, and on the way what it shows (OUTPUT_DIR/trace, a few MB).
    cfg.NPLP.REPORT = True

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
    # What is an outlier when its noisy cluster is clustered again is left out of the iteration ("drop", the
    # paper's X_t^c holds sub-clusters alone) or put back ("rejoin") into the sub-cluster in which it has the
    # most neighbours within epsilon_e.
    cfg.NPLP.RECLUSTERED_OUTLIERS = "drop"

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
    # docs/degenerate_clusterings.md. Each finding is logged and is in pseudo_labels.jsonl. By default no rule
    # changes what the paper's equations give; Base-NPLP-plus.yml has the recommended values.
    cfg.NPLP.RULES = CfgNode()
    # Fewer than two clusters, which teach nothing: "keep" the labels of the iteration before, or "stop".
    cfg.NPLP.RULES.NO_CLUSTER = "keep"
    # A cluster of GIANT_SHARE of all images or more: "off" to train on it as it is (eq. 4), "lower" epsilon
    # by a tenth at a time until there is none, or "stop".
    cfg.NPLP.RULES.GIANT_CLUSTER = "off"
    cfg.NPLP.RULES.GIANT_SHARE = 0.3
    # All self-assessment scores equal: correct the first clusters in "order" (eq. 9 with any choice among
    # equals), or "skip" the correction.
    cfg.NPLP.RULES.EQUAL_SCORES = "order"
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
