"""The training loop: the only `backward()` and `optimizer.step()` here.

Everything random is a pure function of the seed, the step and the image, so a run that is killed at any instant and
resumed from its last checkpoint ends with the weights of one that was left alone, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.accelerator import Accelerator
from accelerate.utils.operations import broadcast_object_list
from torch import Tensor, distributed, nn

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint, mark_best, prune_checkpoints, save_checkpoint
from tasks.checkpoint_fit import load_weights_strictly
from tasks.config import Experiment
from tasks.cost import CostMeter
from tasks.data.loader import TrainingLoader
from tasks.data.sample import Batch
from tasks.data.worker_watch import dead_workers_told
from tasks.ema import MovingAverage
from tasks.evaluation import Evaluator
from tasks.evidence import keep_evidence
from tasks.inference import Predictor
from tasks.interruption import Interrupted, StopSignals
from tasks.joint_evaluation import JointEvaluator
from tasks.label_map import LabelMap
from tasks.loss_watch import LossWatch, NonFiniteStep
from tasks.memory_advice import advice, out_of_memory, shortage_told
from tasks.model import Model
from tasks.nonfinite import NonFiniteSearch
from tasks.optim import add_l1_gradient, build_optimizer, count_steps, learning_rate_factor, set_learning_rate
from tasks.optimizer_state import optimizer_tensors, restore_optimizer
from tasks.progress import Reporter, TrainingProgress
from tasks.run_folder import RunFolder
from tasks.seeding import derive_seed
from tasks.stall_watch import StallWatch
from tasks.tensorboard import EventLog


class Runner:
    """Trains one model on one experiment.

    Args:
        config: the resolved experiment.
        model: with its initial weights.
        labels: classes of each head.
        loader: training batches.
        predictor: of the model, for evaluations.
        evaluator: scores it on validation images.
        folder: where the run writes.
        accelerator: device, precision and processes.
        reporter: prints for the main process.
        checkpoint: where to go on from; None starts at step 0.

    Raises:
        UserError: the checkpoint is of another architecture or another amount of data, or damaged.
    """

    def __init__(
        self,
        config: Experiment,
        model: Model,
        labels: Mapping[str, LabelMap],
        loader: TrainingLoader,
        predictor: Predictor,
        evaluator: Evaluator | JointEvaluator,
        folder: RunFolder,
        accelerator: Accelerator,
        reporter: Reporter,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.config, self.labels, self.loader = config, labels, loader
        self.predictor, self.evaluator = predictor, evaluator
        self.folder, self.accelerator, self.reporter = folder, accelerator, reporter
        self.bare = model.to(accelerator.device).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(self.bare, config.optimizer, config.losses.lr_factor)
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in self.bare.named_parameters()}
        self.step = 0
        if checkpoint is not None:
            if checkpoint.steps_per_epoch != loader.steps_per_epoch:
                raise UserError(
                    f"{checkpoint.folder}: an epoch had {checkpoint.steps_per_epoch} steps; data and batch size make "
                    f"it {loader.steps_per_epoch} now; resume with what it had, or start anew from it with --init"
                )
            self.step = checkpoint.step
            load_weights_strictly(self.bare, checkpoint.tensors("model"), checkpoint.folder)
            restore_optimizer(optimizer, self.names, checkpoint.tensors("optimizer"))
        self.ema = MovingAverage(self.bare, config.runner.ema_decay) if config.runner.ema_decay else None
        if self.ema and checkpoint is not None:
            self.ema.tensors |= {n: t.to(accelerator.device) for n, t in checkpoint.tensors("ema").items()}
        self.model: nn.Module
        self.model, self.optimizer = accelerator.prepare(self.bare, optimizer)
        if accelerator.scaler is not None and checkpoint is not None and checkpoint.scaler:  # else it was not fp16
            accelerator.scaler.load_state_dict(checkpoint.scaler)
        if accelerator.is_main_process:
            folder.rewind(self.step)
        # Every process must come to the same decisions, so all hold the main one's history.
        self.history: list[dict[str, Any]] = broadcast_object_list([folder.evaluations()])[0]
        self.monitor = config.runner.monitor or evaluator.main_metric
        # Fused optimizers leave weights as they are where this is 1, without the host asking: so the weights of a step
        # that is not finite are still there when the host sees it, one step later.
        self.gated = accelerator.scaler is None and bool(optimizer.defaults.get("fused"))
        self.watch = LossWatch(checkpoint.tensors("losses") if checkpoint else None)
        wanted = config.runner.tensorboard and accelerator.is_main_process
        self.events = EventLog(folder.tensorboard, self.step) if wanted else None
        self.total_steps = count_steps(loader.steps_per_epoch, config.schedule)
        self.signals = StopSignals(folder.path, reporter)
        self.saved_at = time.monotonic()
        self.gradient_norm = torch.tensor(0.0)
        self.meter = CostMeter(accelerator.device)

    def train(self) -> dict[str, float]:
        """Train to the end of the schedule, or until early stopping, and return the metrics of the last evaluation.

        Raises:
            UserError: a loss or gradient is not finite, a checkpoint cannot be written, or an image cannot be read.
            Interrupted: the user stopped the run; it can be resumed.
        """
        progress = TrainingProgress(self.reporter, self.step, self.total_steps)
        processes = self.accelerator.process_index, self.accelerator.num_processes
        watch = StallWatch(self.reporter, self.config.runner.stall_seconds, *processes)
        resume = self.signals.resume
        with (
            dead_workers_told(resume),
            shortage_told(resume),
            self.folder.full_disk_told(),
            self.signals,
            watch,
            progress as self.progress,
        ):
            try:
                self._finish_epoch()  # What a kill may have left undone.
                while self.step < self.total_steps and not self._stale():
                    self._train_epoch()
                    self._finish_epoch()
            except NonFiniteStep as found:
                raise UserError(self._keep_evidence(found)) from None
        return dict(self.history[-1]["metrics"])

    def _train_epoch(self) -> None:
        epoch, start = divmod(self.step, self.loader.steps_per_epoch)
        for passes in self._timed(islice(self.loader.steps(epoch, start), self.total_steps - self.step)):
            self._take_step_or_advise(passes)
            self._after_step(epoch, sum(map(len, passes)))

    def _take_step_or_advise(self, passes: list[Batch]) -> None:
        try:
            self.take_step(passes)
            return
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        self.optimizer.zero_grad()
        alone = self.accelerator.num_processes == 1  # others would wait for this one's gradients
        told = advice(passes, self._try_pass if alone else None)
        raise UserError(f"out of memory at step {self.step + 1}: {told}; {self.signals.resume}")

    def _try_pass(self, batch: Batch) -> None:
        try:
            next(self.gradients(self.step, [batch.to(self.accelerator.device)]))
        finally:
            self.optimizer.zero_grad()

    def take_step(self, passes: list[Batch]) -> None:
        """One step of the optimizer, by the gradients of a batch that comes in one or several passes."""
        factor = learning_rate_factor(self.step, self.loader.steps_per_epoch, self.config.schedule)
        set_learning_rate(self.optimizer, factor)
        batches = [batch.to(self.accelerator.device, non_blocking=True) for batch in passes]
        for losses in self.gradients(self.step, batches):
            self.watch.add(losses)
        clip, due = self.config.optimizer.clip_grad_norm, self._line_due(self.step + 1)
        if self.config.optimizer.l1 or clip or due:
            self.accelerator.unscale_gradients()  # Once: a second time would be refused.
        if self.config.optimizer.l1:
            add_l1_gradient(self.optimizer)
        weights = list(self.model.parameters())
        self.gradient_norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        # A gradient scaler looks for itself, lets some gradients overflow and takes such steps back.
        scaled = self.accelerator.scaler is not None
        self.watch.check_step(self.step, batches, None if scaled else self.gradient_norm)
        if clip:
            nn.utils.clip_grads_with_norm_(weights, clip, self.gradient_norm)
        if self.gated:
            self.optimizer.optimizer.found_inf = self.watch.spoiled
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.bare, self.step)
        self.step += 1

    def gradients(self, step: int, batches: list[Batch]) -> Iterator[dict[str, Tensor]]:
        """Forward and backward passes of a step, counted from 0; gives the weighted losses of each as it is done."""
        # Whatever draws from the global generator, such as dropout, depends on the step alone.
        torch.manual_seed(derive_seed(self.config.runner.seed, step, self.accelerator.process_index))
        self.model.train()
        epoch = step // self.loader.steps_per_epoch
        self.bare.freeze_backbone(epoch < self.config.schedule.freeze_backbone_epochs)
        images = sum(map(len, batches))
        for index, batch in enumerate(batches):
            with self._synchronising(last=index == len(batches) - 1):
                losses = {name: loss * (len(batch) / images) for name, loss in self.model(batch).items()}
                self.accelerator.backward(torch.stack(list(losses.values())).sum())
            yield losses

    def _after_step(self, epoch: int, images: int) -> None:
        """Log, save and stop where due."""
        self.images_seen += images * self.accelerator.num_processes
        record = None
        if self._line_due(self.step):
            record = self._log(epoch)
        self.progress.update(self.step, record)
        every = self.config.runner.save_every_steps
        overdue = time.monotonic() - self.saved_at > 60 * self.config.runner.save_every_minutes
        stop = self._must_stop()
        if stop or overdue or (every and self.step % every == 0):
            self._save()
        if stop:
            raise Interrupted(self._stopped())

    def _line_due(self, step: int) -> bool:
        return step % self.config.runner.log_every == 0 or step == self.total_steps

    def _must_stop(self) -> bool:
        """Whether to stop now. Processes must do so after the same step, so they ask each other when a line is due."""
        if self.accelerator.num_processes == 1:
            return self.signals.asked
        if self.step % self.config.runner.log_every:
            return False
        asked = torch.tensor(float(self.signals.asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked) > 0)

    def _stopped(self) -> str:
        return f"stopped after step {self.step} of {self.total_steps}, which is saved; {self.signals.resume}"

    def _log(self, epoch: int) -> dict[str, Any]:
        losses = self.watch.means()
        seconds = time.monotonic() - self.clock
        record = {
            "step": self.step,
            "epoch": epoch + 1,
            "loss": sum(losses.values()),
            "lr": max(group["lr"] for group in self.optimizer.param_groups),
            "images_per_second": self.images_seen / seconds,
            "data_wait": self.waited / seconds,
            "gradient_norm": _finite(self.gradient_norm),
            "losses": losses,
        }
        if self.config.losses.learned and self.bare.loss_weights is not None:
            record["loss_weights"] = self.bare.loss_weights.current()
        self._record(record)
        self._start_clock()
        return record

    def _finish_epoch(self) -> None:
        """At the end of an epoch, or of the run within one: save, then evaluate where due and not done yet."""
        epoch, rest = divmod(self.step, self.loader.steps_per_epoch)
        if self.step == 0 or (rest and self.step < self.total_steps):
            return
        self._save()
        due = epoch % self.config.runner.evaluate_every == 0 or self.step >= self.total_steps
        if not due or any(record["step"] == self.step for record in self.history):
            return
        with self.ema.applied(self.bare) if self.ema else nullcontext():
            self._share_buffers()
            self.signals.at_once = self._stopped()
            metrics = self.evaluator.evaluate(self.predictor, self.reporter, self.folder.pictures)
            self.signals.at_once = ""
        record = {"step": self.step, "epoch": epoch + (rest > 0), "metrics": metrics}
        self.history.append(record)
        main = ", ".join(f"{name} {metrics[name]:.3f}" for name in self.evaluator.headline())
        steps = self.config.schedule.steps
        done = f"step {self.step}/{steps}" if steps else f"epoch {epoch}/{self.config.schedule.epochs}"
        self.reporter.say(f"{done}: {main}")
        if self.accelerator.is_main_process:
            # Before the line is logged: a run killed in between evaluates again, one killed after it never would.
            if self._best() is record:
                for results in self.evaluator.results(self.step, metrics):
                    results.save(self.folder.results)
                mark_best(self.folder.checkpoints, self.checkpoint, self.monitor, metrics[self.monitor])
            self._record(record)
            prune_checkpoints(self.folder.checkpoints, self.config.runner.keep_last)

    def _record(self, record: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            record["cost"] = self.meter.read()
            self.folder.log(record)
            if self.events:
                self.events.write(record)

    def _share_buffers(self) -> None:
        """All processes evaluate with the main one's running statistics, which are the ones that are saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.bare.buffers():
                distributed.broadcast(buffer, 0)

    def _best(self) -> dict[str, Any] | None:
        good = self.evaluator.goodness
        return max(self.history, key=lambda record: good(self.monitor, record["metrics"][self.monitor]), default=None)

    def _stale(self) -> bool:
        """Whether early stopping is due: the last `early_stopping` evaluations brought nothing better."""
        patience, best = self.config.runner.early_stopping, self._best()
        if not patience or best is None or len(self.history) - 1 - self.history.index(best) < patience:
            return False
        self.reporter.say(f"stopping early: {self.monitor} has not become better for {patience} evaluations")
        return True

    def search_nonfinite(self, step: int, batches: list[Batch]) -> str:
        """Forward and backward passes of a step, counted from 0, once more: where the first value that is not finite
        comes up; empty if there is none.
        """
        self.optimizer.zero_grad()
        with NonFiniteSearch(self.bare) as search:
            for _ in self.gradients(step, batches):
                pass
        return search.found

    def _keep_evidence(self, found: NonFiniteStep) -> str:
        """Save what belongs to a step that was not finite, and describe it."""
        kept = self.accelerator.device.type == "cpu" or self.gated  # else the optimizer has been at the weights
        self.step = found.index
        again = partial(self.search_nonfinite, found.index, list(found.batches)) if kept else None
        return keep_evidence(found, self.folder.path, self.accelerator.process_index, again, self._write_checkpoint)

    def _write_checkpoint(self, root: Path) -> Path:
        tensors = {
            "model": self.bare.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer.optimizer, self.names),
            "losses": self.watch.tensors(),
        }
        if self.ema:
            tensors["ema"] = self.ema.tensors
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {}
        each = self.loader.steps_per_epoch
        return save_checkpoint(root, self.step, tensors, self.labels, self.config, scaler, each)

    def _save(self) -> None:
        self.watch.check()  # Never over a good checkpoint with weights that a non-finite loss has spoiled.
        if not torch.isfinite(nn.utils.get_total_norm(self.bare.parameters())):
            raise UserError(
                f"a weight is not finite after step {self.step}, which is not saved; lower --optimizer.lr; "
                f"python tools/replay.py {self.folder.path} --step {self.step} takes the step again"
            )
        if self.accelerator.is_main_process:
            root = self.folder.checkpoints
            self.checkpoint = self._write_checkpoint(root)
            prune_checkpoints(root, self.config.runner.keep_last)
        self.saved_at = time.monotonic()

    def _timed(self, steps: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
        """The same steps; how long the loop waited for them is added up."""
        self._start_clock()
        while True:
            asked = time.monotonic()
            passes = next(steps, None)
            self.waited += time.monotonic() - asked
            if passes is None:
                return
            yield passes

    def _start_clock(self) -> None:
        self.clock, self.waited, self.images_seen = time.monotonic(), 0.0, 0

    def _synchronising(self, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients only in the last pass of a step."""
        context: AbstractContextManager[None] = nullcontext() if last else self.accelerator.no_sync(self.model)
        return context


def _finite(value: Tensor) -> float | None:
    """A number for json, which has no infinity: fp16 gradients overflow now and then, and such a step is left out."""
    number = float(value)
    return number if math.isfinite(number) else None
