"""The configuration keys that NPLP adds to the toolbox's."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from fastreid.config import CfgNode, get_cfg

from nplp.config.choices import (
    AVERAGE,
    CAMERA_NONE,
    CAMERA_PROXIES,
    EMBEDDING,
    IDENTITIES,
    TRACKS_UNUSED,
)
from nplp.config.method_sections import METHOD_SECTIONS
from nplp.losses import LOSSES
from nplp.losses.registry import CROSS_ENTROPY, TRIPLET
from nplp.metric_names import RERANK_TOOLBOX
from nplp_synthetic import DomainStyle

__all__ = ["SOURCE_LOSSES", "add_nplp_config", "default_config", "source_config"]


SOURCE_LOSSES = (CROSS_ENTROPY, TRIPLET)
"""Those of the pre-training, eq. 3."""


def default_config() -> CfgNode:
    """Return the toolbox's configuration with NPLP's keys, all at their defaults."""
    cfg = get_cfg()
    add_nplp_config(cfg)
    return cfg


def add_nplp_config(cfg: CfgNode) -> None:
    """Add NPLP's keys, with the paper's settings as defaults, to a toolbox configuration in place."""
    # Seed of every random generator (python, numpy, torch, loader workers).
    cfg.SEED = 0
    # The toolbox's default is "cuda" everywhere; here it is what this machine has.
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    _add_model_keys(cfg)
    _add_test_keys(cfg)
    _add_data_keys(cfg)
    _add_method_keys(cfg)
    _add_source_keys(cfg)


def _add_model_keys(cfg: CfgNode) -> None:
    # I of PAP-I: granularity i gives i stripes, so f_c has I(I+1)/2 x C values (section III-D a).
    # PAP 1 pools the whole map, as most published models do.
    cfg.MODEL.HEADS.PAP = 2
    # How a stripe is pooled: "average" (the paper's), or "gem", the generalised mean with a trained power p,
    # an addition that keeps the pooling of models that were trained with it (AGW, SBS).
    cfg.MODEL.HEADS.POOLING = AVERAGE
    # How f_c becomes f_e: "hn", one fully connected layer with a bias and MODEL.HEADS.EMBEDDING_DIM (the
    # toolbox's key) outputs, or "concat", f_e = f_c (DC in Table II).
    cfg.MODEL.HEADS.FUSION = "hn"

    # An addition to the paper, off by default: each camera's mean feature and standard deviation over the
    # target's training images are measured after the training, kept in the model and used wherever it gives
    # features, but not for pseudo-labels: "mean" subtracts the camera's mean from the L2-normalised feature,
    # "standardize" divides by its deviation then, "none" does neither. See docs/cameras.md.
    cfg.TEST.CAMERAS = CAMERA_NONE

    # What the head returns in evaluation, for clustering and test: "f_e" (the paper's), "f_bn" = BN(f_e),
    # the embedding of models with a BN neck (BoT, AGW, SBS), or "f_r" = ReLU(BN(f_e)), that of torchreid's
    # OSNet, whose last layer is FUSION hn. With PAP 1 the model gives what the network gave where it was
    # trained; docs/weights.md has a table. Whatever it is, the losses read what nplp/losses/registry.py says.
    cfg.MODEL.HEADS.OUTPUT = EMBEDDING
    # Train the bias of the neck's BN; False keeps it at 0, as most peers do.
    cfg.MODEL.HEADS.NECK_BIAS = True

    # An addition to the paper, off by default (0): in training a batch norm normalises over consecutive
    # chunks of so many images, whatever the batch is. Batches are ordered by identity: a chunk of 16 holds 4
    # identities of 4 images, as on each of the peers' 4 GPUs. Must divide what each process takes of a batch.
    # The pre-training, which is best with the whole batch, has NPLP.SOURCE.NORM_CHUNK.
    cfg.MODEL.NORM_CHUNK = 0

    # An addition to the paper, off by default: the backbone's batch norms normalise each camera's images by
    # that camera's own statistics (Zhuang et al., ECCV 2020), see CameraNorms in nplp/modeling/norms.py.
    # NPLP.NORM.REFRESH is then on, whatever it says. Training needs several images of a camera in a batch.
    # Not in the pre-training.
    cfg.MODEL.NORM_CAMERAS = False

    # Keep the backbone's feature maps with channels last in memory, in the pre-training too; its weights stay
    # as the toolbox's optimisers want them. Results differ by rounding. On a CPU a step of OSNet then takes
    # two thirds of the time, one of ResNet-18 no less (docs/scaling.md).
    cfg.MODEL.CHANNELS_LAST = False
    # Compile the backbone by torch.compile, which takes a minute or more at the first step; needs a C++
    # compiler (on a GPU Triton). Results differ by rounding. Not with MODEL.NORM_CAMERAS, whose sizes change.
    cfg.MODEL.COMPILE = False
    # The type of SOLVER.AMP.ENABLED, the toolbox's mixed precision: "bfloat16", "float16" (GPUs alone), or
    # "auto", bfloat16 where the device multiplies in it. Labels are always made from float32 features.
    cfg.SOLVER.AMP.DTYPE = "auto"

    # The options of each loss are explained at its entry in nplp/losses/registry.py.
    for loss in LOSSES.values():
        if loss.section:
            _add_section(cfg.MODEL.LOSSES, loss.section, loss.options)


def _add_test_keys(cfg: CfgNode) -> None:
    # Additions to the paper, off by default; see docs/evaluation.md.
    # The form of TEST.RERANK, k-reciprocal re-ranking (Zhong et al., CVPR 2017), which the toolbox's keys
    # ENABLED, K1, K2 and LAMBDA switch on and set: "toolbox" gives the numbers of the toolbox's evaluator,
    # which depend on the features' length under TEST.METRIC euclidean, "paper" divides each sample's squared
    # distances by the greatest of them, as the paper and the toolbox's function re_ranking do.
    cfg.TEST.RERANK_FORM = RERANK_TOOLBOX
    # Rank-1 and mAP for each pair of a query's camera and a gallery camera, into OUTPUT_DIR/camera_pairs.json
    # and the log.
    cfg.TEST.BY_CAMERA = False
    # Resamples of the test identities, drawn with SEED, of which the 95% intervals of Rank-1 and mAP are
    # taken; 0: no intervals, 1000 is usual.
    cfg.TEST.BOOTSTRAP = 0


def _add_section(cfg: CfgNode, section: str, options: Mapping[str, Any]) -> None:
    """Add options to the section of ``cfg`` with a dotted name; keys that are there keep their values."""
    for name in section.split("."):
        cfg = cfg.setdefault(name, CfgNode())
    for key, value in options.items():
        cfg.setdefault(key, value)


def _add_data_keys(cfg: CfgNode) -> None:
    # Pad, crop, flip and erase the whole batch at once on the model's device; workers then hand over the
    # resized crops as bytes, a quarter of float32. The distributions are the same, the numbers drawn are not:
    # they depend on SEED, the epoch, the batch and the image's place in the batch of all processes. Not with
    # INPUT's other transformations, which are refused. See docs/faster.md.
    cfg.INPUT.ON_DEVICE = False
    # Batches that each worker reads ahead. Nothing but the time and the memory depends on it.
    cfg.DATALOADER.PREFETCH_FACTOR = 2
    # Decoded crops are kept for the next epoch, extraction and evaluation, in shared memory of so many MB at
    # most, and beyond in a file without a name in the system's temporary folder (TMPDIR), of so many MB at
    # most; never more than a quarter of what is free. The processes of a machine divide them; 0 and 0 keep
    # nothing. Nothing but the time depends on it: see nplp/data/decoded.py.
    cfg.DATALOADER.DECODED = CfgNode()
    cfg.DATALOADER.DECODED.MEMORY_MB = 2048
    cfg.DATALOADER.DECODED.DISK_MB = 8192
    # Decode every training image once before training and stop with the list of unreadable ones.
    cfg.DATASETS.VERIFY = True
    # Leave unreadable training images out instead of stopping; they are counted in the log.
    cfg.DATASETS.SKIP_CORRUPT = False
    # The data set PKUReid: seed of the split of its people into two halves, and whether one half is trained
    # on and the other evaluated on; if not, all people are both.
    cfg.DATASETS.PKU = CfgNode()
    cfg.DATASETS.PKU.SPLIT = 0
    cfg.DATASETS.PKU.HELD_OUT = True
    # The data set OwnImages, explained in docs/own_images.md: a folder of images, whose sub-folders are the
    # cameras, or a table (.csv, .tsv, .parquet) with a row an image.
    cfg.DATASETS.OWN = CfgNode()
    cfg.DATASETS.OWN.SOURCE = ""
    # For a folder: a regular expression with the group camera, and if there are such the groups identity,
    # track and time, searched in each image's path within the folder: "(?P<camera>c[0-9]+)_".
    cfg.DATASETS.OWN.CAMERA_PATTERN = ""
    # For a table of other column names: texts such as "camera=cam_id". The columns are path, camera,
    # identity, split (train, query, gallery), track and time; path alone must be there.
    cfg.DATASETS.OWN.COLUMNS = ()
    # The built-in synthetic domains (SynthPlaza, SynthStation, SynthCampus, SynthHarbour), rendered once into
    # a cache folder.
    cfg.DATASETS.SYNTHETIC = CfgNode()
    cfg.DATASETS.SYNTHETIC.TRAIN_IDENTITIES = 96
    cfg.DATASETS.SYNTHETIC.TEST_IDENTITIES = 96
    cfg.DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY = 16
    cfg.DATASETS.SYNTHETIC.CAMERAS = 6
    # Height and width of the rendered crops, in pixels.
    cfg.DATASETS.SYNTHETIC.IMAGE_SIZE = [128, 64]
    # How hard they are, the same in all of them: the fields of nplp_synthetic.DomainStyle, explained there.
    # SynthHarbour does not follow it: hard on purpose, it keeps its own, nplp_synthetic.DOMAINS["harbour"].
    style = {field.name.upper(): getattr(DomainStyle(), field.name) for field in fields(DomainStyle)}
    cfg.DATASETS.SYNTHETIC.STYLE = CfgNode(style)
    # Seed of the drawings; independent of SEED, so that seeds compare runs on the same pictures.
    cfg.DATASETS.SYNTHETIC.SEED = 0
    # Cache folder; empty: NPLP_CACHE from the environment, else ~/.cache/nplp.
    cfg.DATASETS.SYNTHETIC.ROOT = ""
    # The tracks that a tracker would have given of a synthetic target, which NPLP.TRACKS uses: images of a
    # track at most (0: no tracks), the share of tracks that hold two people, and whether times are known.
    cfg.DATASETS.SYNTHETIC_TRACKS = CfgNode({"LENGTH": 0, "WRONG": 0.0, "TIMES": True})


def _add_method_keys(cfg: CfgNode) -> None:
    cfg.NPLP = CfgNode()
    # How pseudo-labels are made and trained on: a module of nplp.methods by its registered name.
    cfg.NPLP.METHOD = "nplp"
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

    _add_process_keys(cfg)
    _add_rule_keys(cfg)

    # An addition to the paper, off by default: end the run after the first iteration, from MIN_ITERATIONS on,
    # whose labels agree with those of the iteration before by AGREEMENT or more: the adjusted Rand index,
    # "label_agreement" in pseudo_labels.jsonl, 1 for the same labels. 0: never. No identity is looked at.
    # MIN_ITERATIONS above STARTUP_ITERATIONS lets the correcting stage begin.
    cfg.NPLP.STOP = CfgNode()
    cfg.NPLP.STOP.AGREEMENT = 0.0
    cfg.NPLP.STOP.MIN_ITERATIONS = 2

    # The options of each method are explained where it is registered, in nplp/methods.
    for section, options in METHOD_SECTIONS.values():
        _add_section(cfg, section, options)

    # An addition to the paper, off by default: each image's share of every loss is weighed by the entropy of
    # its cluster's cameras, exp(bits), on average 1 over the clusters (see nplp/clustering/cameras.py).
    cfg.NPLP.CAMERA_ENTROPY_WEIGHT = False

    # An addition to the paper, off by default ("none"): what labels make of the tracks of OwnImages, whose
    # table names them. "constrain": the images of a track are one person, and two tracks of one camera that
    # overlap in time are two (nplp/clustering/constrain.py). "average", to compare with: each image has its
    # track's mean feature when it is clustered. See docs/tracks.md.
    cfg.NPLP.TRACKS = TRACKS_UNUSED

    # An addition to the paper, off by default: keep an exponential moving average of the weights, evaluated
    # and saved beside the last ones.
    cfg.NPLP.EMA = False
    # An addition to the paper: the averaged weights give the features that are clustered (a mean teacher).
    cfg.NPLP.EMA_LABELS = False
    # What the average keeps of itself at each step.
    cfg.NPLP.EMA_DECAY = 0.999

    _add_norm_keys(cfg)


def _add_process_keys(cfg: CfgNode) -> None:
    # In several processes each does a share of the pairs when images are labelled, and all hold the features
    # (N x D x 4 bytes each). The labels are those of one process to the last bit. False: the main process
    # labels alone, with the features in its memory alone. See docs/scaling.md.
    cfg.NPLP.SHARED_LABELS = True
    # Additions to the paper, off by default; see docs/world_sizes.md.
    # The same result, but for rounding, however many processes share a batch of SOLVER.IMS_PER_BATCH images:
    # each takes the losses, with their triplets, of the batch of all processes, and an image's augmentation
    # depends on its place in that batch. Without it each process mines within its share and draws for itself.
    # Needs MODEL.NORM_CHUNK, as a batch norm else normalises over what its process has of a batch.
    cfg.NPLP.SAME_AT_ANY_WORLD_SIZE = False
    # Parts in which a process takes its share of a batch through the network, one after another: losses and
    # gradients are those of the whole batch, the activations of one part alone are in memory, and a step
    # takes one more forward pass. Must divide the share. Without MODEL.NORM_CHUNK batch norms normalise over
    # a part, so that one process with 8 parts has the batch norms of 8 processes.
    cfg.SOLVER.ACCUMULATE = 1


def _add_norm_keys(cfg: CfgNode) -> None:
    # Additions to the paper, off by default; the rule is in nplp/engine/norm_statistics.py.
    cfg.NPLP.NORM = CfgNode()
    # Estimate the running mean and variance of every batch norm anew, over the target's training images,
    # before each iteration's extraction and each evaluation but that of the direct transfer. With 0
    # iterations that is all of the adaptation.
    cfg.NPLP.NORM.REFRESH = False
    # At most so many images, drawn with SEED; 0: all. Each costs a forward pass.
    cfg.NPLP.NORM.IMAGES = 0
    # Images that are normalised together while statistics are estimated, 4 or more. The result depends on it,
    # as it does not on TEST.IMS_PER_BATCH; the larger, the less.
    cfg.NPLP.NORM.BATCH = 64


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
    # MODEL.NORM_CHUNK of the pre-training.
    cfg.NPLP.SOURCE.NORM_CHUNK = 0


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
    if cfg.DATALOADER.SAMPLER_TRAIN == CAMERA_PROXIES:
        source.DATALOADER.SAMPLER_TRAIN = IDENTITIES  # people are known there
    source.DATASETS.NAMES = cfg.NPLP.SOURCE.DATASETS
    source.MODEL.LOSSES.NAME = SOURCE_LOSSES
    source.MODEL.LOSSES.TRI.NEGATIVES = "all"  # likewise
    source.MODEL.NORM_CHUNK = cfg.NPLP.SOURCE.NORM_CHUNK
    source.MODEL.NORM_CAMERAS = False
    source.TEST.EVAL_PERIOD = 0
    # The statistics are the target's.
    source.TEST.CAMERAS = CAMERA_NONE
    source.OUTPUT_DIR = f"{cfg.OUTPUT_DIR.rstrip('/')}/source"
    source.freeze()
    return source
