"""The toolbox's trainer, made device-aware, re-loadable, repeatable by epoch and resumable."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from fastreid.config import CfgNode
from fastreid.engine import hooks
from fastreid.engine.defaults import DefaultTrainer
from fastreid.engine.train_loop import SimpleTrainer, TrainerBase
from fastreid.utils import comm
from fastreid.utils.events import EventStorage, EventWriter, JSONWriter, TensorboardXWriter
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from nplp.data.loaders import TrainSet, build_train_loader
from nplp.distributed.collectives import from_main_process
from nplp.distributed.waiting import now_at
from nplp.engine.checkpoint import AtomicCheckpointer, read_checkpoint
from nplp.engine.events import EpochWriter
from nplp.engine.interruption import finished_first
from nplp.engine.networks import bare
from nplp.engine.output_folder import set_old_end_apart
from nplp.engine.replicas import average_statistics, check_batches, check_norms, equalise_buffers
from nplp.engine.resuming import (
    LABELLING,
    RATES,
    TRAINING,
    Difference,
    check_same_run,
    drop_lines_from,
    refuse_without_effect,
)
from nplp.engine.seeding import (
    choose_kernels,
    derive_seed,
    random_state,
    restore_random_state,
    seed_everything,
)
from nplp.errors import UserError
from nplp.files import save_atomically
from nplp.host.optimizer import fuse_step
from nplp.memory import is_out_of_memory
from nplp.modeling.compiling import compile_backbone

__all__ = ["ReidTrainer"]

logger = logging.getLogger(__name__)

WRITER_PERIOD = 20
MOST_STEPS = 10**9
"""More than any training takes."""


class ReidTrainer(DefaultTrainer):
    """Trains any of the toolbox's models on a training set that hooks may replace between epochs.

    Differences from ``DefaultTrainer``: the training set may change (:meth:`reset_train_set`), and with
    it the number of steps in an epoch; every epoch seeds all generators from the seed and the epoch
    alone; each epoch's end is a checkpoint, and so is the step at which a signal asks to stop, from which
    :meth:`resume` continues exactly; it runs on the CPU too, in one process or in several.
    """

    stage = 0
    """Which stream of random numbers the trainer draws from; subclasses differ."""

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimiser, scheduler and checkpointer from ``cfg``; the training set comes later."""
        TrainerBase.__init__(self)
        self.cfg = cfg
        self.device = torch.device(cfg.MODEL.DEVICE)
        choose_kernels(self.device, cfg.CUDNN_BENCHMARK)
        seed_everything(derive_seed(cfg.SEED, self.stage))
        model = self.build_model(cfg)
        if cfg.MODEL.COMPILE and cfg.MODEL.META_ARCHITECTURE == "NPLP":
            compile_backbone(model, self.device)
        model = self.add_networks(model)
        if cfg.MODEL.META_ARCHITECTURE == "NPLP":
            check_batches(cfg, model, self.shown_key("MODEL.NORM_CHUNK"))
        optimizer, param_wrapper = self._build_optimizer(cfg, model)
        if comm.get_world_size() > 1:
            check_norms(model, self.device)
            devices = [comm.get_local_rank()] if self.device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
        self._trainer = self._build_step(cfg, model, optimizer, param_wrapper)

        self.train_set: TrainSet | None = None
        self.steps_per_epoch = 0
        self.iter = self.start_iter = 0
        self.epoch = self.start_epoch = 0
        self.step = self.start_step = 0
        self._random_state: dict[str, Any] | None = None
        self.max_epoch = cfg.SOLVER.MAX_EPOCH
        self.warmup_iters = cfg.SOLVER.WARMUP_ITERS
        self.delay_epochs = cfg.SOLVER.DELAY_EPOCHS
        # The toolbox needs the steps of an epoch only to shorten a cosine schedule by the warm-up.
        self.scheduler = self.build_lr_scheduler(
            cfg, optimizer, iters_per_epoch=max(1, cfg.SOLVER.WARMUP_ITERS)
        )
        self.checkpointer = AtomicCheckpointer(
            model, cfg.OUTPUT_DIR, save_to_disk=comm.is_main_process(), optimizer=optimizer, **self.scheduler
        )
        self._old_end = self.max_epoch
        if self.grad_scaler is not None:
            self.checkpointer.checkpointables["grad_scaler"] = self.grad_scaler
        self.register_hooks(self.build_hooks())

    @staticmethod
    def _build_step(cfg: CfgNode, model: nn.Module, optimizer: Any, param_wrapper: Any) -> SimpleTrainer:
        # Imported here: the bridge may have replaced the class when the toolbox was loaded.
        from fastreid.engine.train_loop import AMPTrainer

        if not cfg.SOLVER.AMP.ENABLED:
            return SimpleTrainer(model, (), optimizer, param_wrapper)
        name = cfg.SOLVER.AMP.DTYPE
        dtype = None if name == "auto" else getattr(torch, name)
        return AMPTrainer(model, (), optimizer, param_wrapper, dtype=dtype)

    @property
    def trained(self) -> nn.Module:
        """All that trains, without the wrapper of a distributed run."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    @property
    def bare_model(self) -> nn.Module:
        """The model itself, without that wrapper and a method's further networks."""
        return bare(self.trained)

    @property
    def max_iter(self) -> int:
        """Steps until the end, if the epochs stay as long as the present one."""
        return self.iter + (self.max_epoch - self.epoch) * self.steps_per_epoch

    def build_hooks(self) -> list[hooks.HookBase]:
        """Return the hooks of every training: learning rate and checkpoints, in this order."""
        shared: list[hooks.HookBase] = [hooks.LRScheduler(self.optimizer, self.scheduler)]
        shared.extend(self.build_stage_hooks())
        shared.append(hooks.CallbackHook(after_epoch=ReidTrainer._save_epoch))
        return shared

    def build_stage_hooks(self) -> list[hooks.HookBase]:
        """Return the hooks that a subclass adds; they run before the checkpoint is written."""
        return []

    def build_writers(self) -> list[EventWriter]:
        """Return the writers of ``metrics.json`` and, where TensorBoard is installed, of its event file.

        Built when it is known where training starts: TensorBoard forgets what an earlier run, which was
        resumed or replaced, had written from there on.
        """
        folder = Path(self.cfg.OUTPUT_DIR)
        writers: list[EventWriter] = [JSONWriter(str(folder / "metrics.json"))]
        if find_spec("tensorboard") is None:
            logger.info("TensorBoard is not installed: metrics.json alone is written")
        else:
            writers.append(TensorboardXWriter(str(folder), purge_step=self.start_iter))
        return writers

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model and write its structure to the log.

        Raises:
            UserError: if the toolbox knows no such architecture, backbone, depth or head, or the file of
                pre-trained weights does not fit.
        """
        try:
            return super().build_model(cfg)
        except KeyError as error:
            raise UserError(
                f"the model cannot be built, as {error.args[0]} is unknown: check MODEL.META_ARCHITECTURE, "
                "MODEL.BACKBONE.NAME, MODEL.BACKBONE.DEPTH and MODEL.HEADS.NAME"
            ) from error

    def add_networks(self, model: nn.Module) -> nn.Module:
        """Return all that trains: the model, with what a subclass trains beside it."""
        return model

    def _build_optimizer(self, cfg: CfgNode, model: nn.Module) -> Any:
        """Build the optimiser.

        Raises:
            UserError: if there is no such optimiser, or it does not take the model's weights.
        """
        try:
            optimizer, param_wrapper = self.build_optimizer(cfg, model)
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            key = self.shown_key("SOLVER.OPT")
            raise UserError(f"{key} {cfg.SOLVER.OPT!r} cannot train this model: {error}") from error
        fuse_step(optimizer)
        return optimizer, param_wrapper

    def reset_train_set(self, train_set: TrainSet, steps_per_epoch: int = 0) -> None:
        """Train on ``train_set`` from the next epoch on.

        Args:
            train_set: the images and their labels.
            steps_per_epoch: steps of an epoch; 0: as many full batches as the set holds.
        """
        self.train_set = train_set
        self.steps_per_epoch = steps_per_epoch or train_set.steps_per_epoch

    def start_afresh(self) -> None:
        """Forget in ``OUTPUT_DIR`` what a start left that was killed before its first checkpoint."""
        self.checkpointer.clear()
        self._forget_metrics()

    def _forget_metrics(self) -> None:
        """Drop from ``metrics.json`` what training writes again."""
        if comm.is_main_process():
            drop_lines_from(Path(self.cfg.OUTPUT_DIR) / "metrics.json", self.iter)

    def resume(self) -> bool:
        """Load the last checkpoint in ``OUTPUT_DIR``, and return whether there was one; nothing is written.

        What is refused is refused before anything is loaded. :meth:`go_on` follows before training.

        Raises:
            UserError: if no checkpoint is whole, the configuration differs from its own in what cannot be
                changed any more, or it is not one of this kind of run.
        """
        if not self.checkpointer.has_checkpoint():
            return False
        path = self.checkpointer.get_checkpoint_file()
        saved = read_checkpoint(path)
        if not {"config", "epoch", "step", "iter", "optimizer"} <= saved.keys():
            raise UserError(
                f"{path!r} is no checkpoint of a run: leave --resume out, or set another OUTPUT_DIR"
            )
        then = yaml.safe_load(saved["config"])
        changed = check_same_run(self.cfg, saved["config"], path, self.means_nothing, self.shown_key)
        self.check_position(saved, then, changed)
        rates = self._fresh_rates()
        state = self.checkpointer.load(path)
        cosine = self.cfg.SOLVER.SCHED != "MultiStepLR"
        self._old_end = int(then["SOLVER"]["MAX_EPOCH"])
        if changed.keys() & {self.shown_key(key) for key in RATES} or (
            cosine and self._old_end != self.max_epoch
        ):
            self._set_rates(*rates)
        self.start_epoch = self.epoch = int(state["epoch"])
        self.start_step = int(state["step"])
        self._random_state = self._own_random_state(state, self.cfg.NPLP.SAME_AT_ANY_WORLD_SIZE)
        self.iter = self.start_iter = int(state["iter"])
        return True

    @staticmethod
    def _own_random_state(state: dict[str, Any], same: bool = False) -> dict[str, Any] | None:
        """Return what this process's generators were at the checkpoint, if as many processes wrote it.

        Args:
            state: the checkpoint's content.
            same: whether the result does not depend on the number of processes.
        """
        states = state.get("random_state") or []
        # One process used to write its own alone.
        states = [states] if isinstance(states, dict) else states
        written_by = int(state.get("processes", comm.get_world_size()))
        if written_by != comm.get_world_size() and not same:
            logger.warning(
                "Resuming with %d process(es) what %d began: an epoch's batches are shared out otherwise, so "
                "that the run ends near the undisturbed one, not on its bits",
                comm.get_world_size(),
                written_by,
            )
        return states[comm.get_rank()] if len(states) == comm.get_world_size() else None

    def ends_before(self, epoch: int) -> bool:
        """Tell whether the run ends before an epoch that SOLVER.MAX_EPOCH leaves room for."""
        del epoch
        return False

    def means_nothing(self, key: str) -> bool:
        """Tell whether a key of the configuration means nothing to this training."""
        del key
        return False

    def shown_key(self, key: str) -> str:
        """Return the name under which a user sets a key of this training."""
        return key

    def old_end_name(self, epoch: int) -> str:
        """Return how the end of a shorter run, after ``epoch`` epochs, is called in names of files."""
        return f"epoch_{epoch:04d}"

    def check_position(
        self, saved: dict[str, Any], then: dict[str, Any], changed: dict[str, Difference]
    ) -> None:
        """Check that what a checkpoint has done is what this run would have done until there.

        Args:
            saved: the checkpoint's content.
            then: its configuration.
            changed: the settings that differ.

        Raises:
            UserError: naming settings that come too late.
        """
        del then
        begun = int(saved["epoch"]) + (int(saved["step"]) > 0)
        if begun > self.max_epoch:
            key = self.shown_key("SOLVER.MAX_EPOCH")
            raise UserError(
                f"{key} {self.max_epoch}: the run in {self.cfg.OUTPUT_DIR!r} is in epoch {begun} already: "
                f"give {begun} or more, or leave --resume out"
            )
        if int(saved["epoch"]) >= self.max_epoch:
            late = tuple(self.shown_key(key) for key in (*TRAINING, *LABELLING))
            refuse_without_effect(changed, late, f"the run in {self.cfg.OUTPUT_DIR!r} has ended")

    def _fresh_rates(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return what the optimiser and the schedulers were built with from the configuration."""
        groups = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]
        schedules = {name: schedule.state_dict() for name, schedule in self.scheduler.items()}
        return copy.deepcopy(groups), copy.deepcopy(schedules)

    def _set_rates(self, groups: list[dict[str, Any]], schedules: dict[str, Any]) -> None:
        """Put the configuration's rates in place of a checkpoint's, at the same point of the schedule.

        A checkpoint brings back the rates it was saved with. The schedules take as many steps from their
        beginning as they had taken.

        Args:
            groups: each group's settings, without its weights, and
            schedules: the schedules' states, both as they are at the first step.
        """
        done = {name: schedule.last_epoch for name, schedule in self.scheduler.items()}
        for group, fresh in zip(self.optimizer.param_groups, groups, strict=True):
            group.update(fresh)
        with warnings.catch_warnings():
            # A schedule that is moved on before the optimiser's first step warns.
            warnings.simplefilter("ignore", UserWarning)
            # All of the warm-up's steps come before the first of the others.
            for name in sorted(self.scheduler, key="warmup_sched".__ne__):
                self.scheduler[name].load_state_dict(schedules[name])
                for _ in range(done[name]):
                    self.scheduler[name].step()

    def go_on(self) -> None:
        """Begin to write again after :meth:`resume`.

        Where the run goes on beyond the end that it had, the model of that end gets another name.
        """
        goes_on = self.start_epoch < self.max_epoch and not self.ends_before(self.start_epoch)
        if comm.is_main_process() and goes_on and self.max_epoch != self._old_end:
            set_old_end_apart(Path(self.cfg.OUTPUT_DIR), self.old_end_name(self._old_end))
        self._forget_metrics()

    def train(self) -> None:
        """Run all epochs from ``start_epoch`` on.

        Raises:
            Interrupted: if a signal asked to stop; the state after the last step is saved.
        """
        if comm.is_main_process():
            self.register_hooks([EpochWriter(self.build_writers(), WRITER_PERIOD)])
        with EventStorage(self.iter) as self.storage:
            try:
                self.before_train()
                for epoch in range(self.start_epoch, self.max_epoch):
                    if self.ends_before(epoch):
                        break
                    self.epoch = epoch
                    self.before_epoch()
                    self._run_steps()
                    self.after_epoch()
            finally:
                self.after_train()

    def _run_steps(self) -> None:
        assert self.train_set is not None, "reset_train_set must be called before an epoch starts"
        seed = derive_seed(self.cfg.SEED, self.stage, self.epoch + 1)
        loader = build_train_loader(self.train_set, num_batches=self.steps_per_epoch, seed=seed)
        seed_everything(derive_seed(seed, comm.get_rank()))
        self._trainer.data_loader = loader
        batches = self._trainer._data_loader_iter = self._told(iter(loader))
        bar = tqdm(
            total=self.steps_per_epoch,
            desc=f"Epoch {self.epoch + 1} of {self.max_epoch}",
            unit="step",
            leave=False,
            disable=None if comm.is_main_process() else True,
        )
        with bar:
            self._return_to_step(batches, bar)
            # All steps in one block: between two, a signal would take effect in one process alone.
            with finished_first() as interruption:
                for step in range(self.start_step, self.steps_per_epoch):
                    self.step = step
                    self._tell("reading its batch", 0)
                    self.before_step()
                    self._run_step(step)
                    average_statistics(self.model)
                    self.after_step()
                    self.iter += 1
                    bar.update()
                    if interruption.agreed():
                        self._save_step(step + 1)
        self.start_step = 0
        equalise_buffers(self.model)
        # Ends the loader's workers.
        self._trainer._data_loader_iter = iter(())

    def _told(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield batches, and tell the other processes when one is read."""
        for batch in batches:
            self._tell("the network, and the exchange with the others", 1)
            yield batch

    def _tell(self, what: str, part: int) -> None:
        # Positions grow through the stages' steps, in the same way in all processes.
        position = 2 * (self.stage * MOST_STEPS + self.iter) + part
        now_at(f"step {self.step + 1} of epoch {self.epoch + 1}, {what}", position)

    def _run_step(self, step: int) -> None:
        """Run a step; a loss that is infinite or not a number ends the run before it reaches the weights."""
        try:
            self.run_step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"epoch {self.epoch + 1}, step {step + 1}: a batch of {self.cfg.SOLVER.IMS_PER_BATCH} images "
                "does not fit into memory: raise SOLVER.ACCUMULATE, or lower SOLVER.IMS_PER_BATCH or "
                "INPUT.SIZE_TRAIN"
            ) from error
        except FloatingPointError as error:
            losses = " ".join(str(error).partition("loss_dict = ")[2].split())
            raise UserError(
                f"epoch {self.epoch + 1}, step {step + 1}: a loss is infinite or not a number ({losses}): "
                "lower SOLVER.BASE_LR; the last checkpoint is from before, --resume goes on from it"
            ) from error

    def _return_to_step(self, batches: Iterator[Any], bar: tqdm) -> None:
        """Draw and leave the batches of an epoch that a resumed run has trained on."""
        for _ in range(self.start_step):
            next(batches)
            bar.update()
        if self._random_state is not None:
            restore_random_state(self._random_state)
            self._random_state = None

    def _save_epoch(self) -> None:
        self._check_weights()
        self._write(lambda: self.checkpointer.save_epoch(self.epoch, **self._position()))

    def _position(self) -> dict[str, Any]:
        return {"iter": self.iter, "config": self.cfg.dump(), "processes": comm.get_world_size()}

    @staticmethod
    def _write(save: Callable[[], object]) -> None:
        """Call ``save`` on the main process; no process goes on, or leaves at a signal, before it is done."""
        with finished_first() as interruption:
            from_main_process(save)
            interruption.agreed()

    def _check_weights(self) -> None:
        """Look at the weights before they take the place of good ones.

        Raises:
            UserError: naming one that is infinite or not a number.
        """
        for name, value in self.trained.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise UserError(
                    f"epoch {self.epoch + 1}: {name} has become infinite or not a number: lower "
                    "SOLVER.BASE_LR; the last checkpoint is from before, --resume goes on from it"
                )

    def _save_step(self, step: int) -> None:
        """Save the state after ``step`` steps of the present epoch.

        Raises:
            UserError: if a weight is infinite or not a number; the last checkpoint stays the last.
        """
        self._check_weights()
        equalise_buffers(self.model)
        states = comm.gather(random_state())
        self._write(
            lambda: self.checkpointer.save_step(self.epoch, step, random_state=states, **self._position())
        )

    def save_final(self, name: str = "model_final", weights: dict[str, torch.Tensor] | None = None) -> Path:
        """Write the finished model's weights, and nothing else, to ``OUTPUT_DIR/name.pth``; return it."""
        path = Path(self.cfg.OUTPUT_DIR) / f"{name}.pth"
        self._write(lambda: save_atomically({"model": weights or self.bare_model.state_dict()}, path))
        return path
