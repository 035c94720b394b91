"""The training loop: it takes the steps of a run, logs, saves, evaluates and stops where that is due.

Everything random is a pure function of the seed, the step and the image, so a run that is killed at any instant and
resumed from its last checkpoint ends with the weights of one that was left alone, bit for bit on a CPU.
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.accelerator import Accelerator
from accelerate.utils.operations import broadcast_object_list
from torch import distributed

from backbones.errors import UserError
from tasks.checkpoint import Tensors, mark_best, prune_checkpoints, save_checkpoint
from tasks.config import Experiment
from tasks.data.loader import TrainingLoader
from tasks.data.sample import Batch
from tasks.data.worker_watch import dead_workers_told
from tasks.evaluation import Evaluator
from tasks.evidence import keep_evidence
from tasks.inference import Predictor
from tasks.interruption import Interrupted, StopSignals
from tasks.joint_evaluation import JointEvaluator
from tasks.label_map import LabelMap
from tasks.loss_watch import NonFiniteStep
from tasks.memory_advice import advice, out_of_memory, shortage_told
from tasks.optim import count_steps
from tasks.progress import Reporter, TrainingProgress
from tasks.run_folder import RunFolder
from tasks.run_log import RunLog
from tasks.sharding import held_whole, total_norm
from tasks.stall_watch import StallWatch
from tasks.stepper import Stepper


class Runner:
    """Trains one model on one experiment.

    Args:
        config: the resolved experiment.
        stepper: takes the steps.
        labels: classes of each head.
        loader: training batches.
        predictor: of the model, for evaluations.
        evaluator: scores it on validation images.
        folder: where the run writes.
        accelerator: device, precision and processes.
        reporter: prints for the main process.
    """

    def __init__(
        self,
        config: Experiment,
        stepper: Stepper,
        labels: Mapping[str, LabelMap],
        loader: TrainingLoader,
        predictor: Predictor,
        evaluator: Evaluator | JointEvaluator,
        folder: RunFolder,
        accelerator: Accelerator,
        reporter: Reporter,
    ) -> None:
        self.config, self.stepper, self.labels, self.loader = config, stepper, labels, loader
        self.predictor, self.evaluator = predictor, evaluator
        self.folder, self.accelerator, self.reporter = folder, accelerator, reporter
        if accelerator.is_main_process:
            folder.lock.take()
            folder.rewind(self.step)
        # Every process must come to the same decisions, so all hold the main one's history.
        self.history: list[dict[str, Any]] = broadcast_object_list([folder.evaluations()])[0]
        self.monitor = config.runner.monitor or evaluator.main_metric
        self.total_steps = count_steps(loader.steps_per_epoch, config.schedule)
        self.signals = StopSignals(folder.path, reporter)
        self.log = RunLog(folder, stepper)
        self.saved_at = time.monotonic()

    @property
    def step(self) -> int:
        """Steps taken so far, in this and earlier starts."""
        return self.stepper.step

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
            finally:
                self.folder.lock.release()
        return dict(self.history[-1]["metrics"])

    def _train_epoch(self) -> None:
        epoch, start = divmod(self.step, self.loader.steps_per_epoch)
        for passes in self.log.timed(islice(self.loader.steps(epoch, start), self.total_steps - self.step)):
            self._take_step_or_advise(passes)
            self._after_step(epoch)

    def _take_step_or_advise(self, passes: list[Batch]) -> None:
        try:
            self.stepper.take(passes, unscaled=self._line_due(self.step + 1))
            return
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        self.stepper.optimizer.zero_grad()
        alone = self.accelerator.num_processes == 1  # others would wait for this one's gradients
        told = advice(passes, self.stepper.attempt if alone else None)
        raise UserError(f"out of memory at step {self.step + 1}: {told}; {self.signals.resume}")

    def _after_step(self, epoch: int) -> None:
        """Log, save and stop where due."""
        record = self.log.log_steps(epoch) if self._line_due(self.step) else None
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

    def _finish_epoch(self) -> None:
        """At the end of an epoch, or of the run within one: save, then evaluate where due and not done yet."""
        epoch, rest = divmod(self.step, self.loader.steps_per_epoch)
        if self.step == 0 or (rest and self.step < self.total_steps):
            return
        self._save()
        due = epoch % self.config.runner.evaluate_every == 0 or self.step >= self.total_steps
        if not due or any(record["step"] == self.step for record in self.history):
            return
        ema, model = self.stepper.ema, self.stepper.bare
        with ema.applied(model) if ema else nullcontext(), held_whole(model):
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
            self.log.log(record)
            prune_checkpoints(self.folder.checkpoints, self.config.runner.keep_last)

    def _share_buffers(self) -> None:
        """All processes evaluate with the main one's running statistics, which are the ones that are saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.stepper.bare.buffers():
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

    def _keep_evidence(self, found: NonFiniteStep) -> str:
        """Save what belongs to a step that was not finite, and describe it."""
        again = None
        if self.stepper.keeps_weights:
            again = partial(self.stepper.search_nonfinite, found.index, list(found.batches))
        self.stepper.step = found.index
        save = partial(self._write_checkpoint, self.stepper.tensors())
        return keep_evidence(found, self.folder.path, self.accelerator.process_index, again, save)

    def _write_checkpoint(self, tensors: Mapping[str, Tensors], root: Path) -> Path:
        scaler, each = self.stepper.scaler(), self.loader.steps_per_epoch
        return save_checkpoint(root, self.step, tensors, self.labels, self.config, scaler, each)

    def _save(self) -> None:
        self.stepper.watch.check()  # Never over a good checkpoint with weights that a non-finite loss has spoiled.
        if not torch.isfinite(total_norm(self.stepper.bare.parameters())):
            raise UserError(
                f"a weight is not finite after step {self.step}, which is not saved; lower --optimizer.lr; "
                f"python tools/replay.py {self.folder.path} --step {self.step} takes the step again"
            )
        tensors = self.stepper.tensors()
        if self.accelerator.is_main_process:
            root = self.folder.checkpoints
            self.checkpoint = self._write_checkpoint(tensors, root)
            prune_checkpoints(root, self.config.runner.keep_last)
        self.saved_at = time.monotonic()
