"""One step of training after another: the only `backward()` and `optimizer.step()` here."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate.accelerator import Accelerator
from torch import Tensor, nn

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint
from tasks.checkpoint_fit import load_weights_strictly
from tasks.config import Experiment
from tasks.data.sample import Batch
from tasks.ema import MovingAverage
from tasks.loss_watch import LossWatch
from tasks.model import Model
from tasks.nonfinite import NonFiniteSearch
from tasks.optim import add_l1_gradient, build_optimizer, learning_rate_factor, set_learning_rate
from tasks.optimizer_state import optimizer_tensors, restore_optimizer
from tasks.seeding import derive_seed
from tasks.sharding import gathered, shard_model, share_of, total_norm


class Stepper:
    """Takes the steps of an experiment: batches change the weights of a model.

    Args:
        config: the resolved experiment.
        model: with its initial weights.
        accelerator: device, precision and processes.
        steps_per_epoch: that the schedule counts in.
        checkpoint: where to go on from; None starts at step 0.

    Attributes:
        step: steps taken.
        bare: the model itself; `model` is what the accelerator has made of it.
        optimizer: of its trainable weights.
        ema: the moving average of its weights, where one is kept.
        watch: the losses of the steps taken.
        gradient_norm: scalar, of all gradients of the last step together, before they were clipped.
        keeps_weights: whether a step that is not finite leaves the weights as they were.

    Raises:
        UserError: the checkpoint is of another architecture or another amount of data, or damaged.
    """

    def __init__(
        self,
        config: Experiment,
        model: Model,
        accelerator: Accelerator,
        steps_per_epoch: int,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.config, self.accelerator, self.steps_per_epoch = config, accelerator, steps_per_epoch
        self.bare, self.step = model, 0
        if checkpoint is not None:
            if checkpoint.steps_per_epoch != steps_per_epoch:
                raise UserError(
                    f"{checkpoint.folder}: an epoch had {checkpoint.steps_per_epoch} steps; data and batch size make "
                    f"it {steps_per_epoch} now; resume with what it had, or start anew from it with --init"
                )
            self.step = checkpoint.step
            load_weights_strictly(model, checkpoint.tensors("model"), checkpoint.folder)
        sharded = config.runner.shard and accelerator.num_processes > 1
        if sharded:
            shard_model(model, accelerator.device)
        else:
            model.to(accelerator.device).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(model, config.optimizer, config.losses.lr_factor)
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        if checkpoint is not None:
            restore_optimizer(optimizer, self._names, checkpoint.tensors("optimizer"))
        self.ema = MovingAverage(self.bare, config.runner.ema_decay) if config.runner.ema_decay else None
        if self.ema and checkpoint is not None:
            averages = checkpoint.tensors("ema").items()
            self.ema.tensors |= {name: share_of(average, self.ema.tensors[name]) for name, average in averages}
        # Shares are gathered and gradients exchanged by the parts themselves; else by what is put around the model.
        self.model: nn.Module = accelerator.prepare_model(model, evaluation_mode=sharded)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        if accelerator.scaler is not None and checkpoint is not None and checkpoint.scaler:  # else it was not fp16
            accelerator.scaler.load_state_dict(checkpoint.scaler)
        # Fused optimizers leave weights as they are where this is 1, without the host asking: so the weights of a step
        # that is not finite are still there when the host sees it, one step later.
        self._gated = accelerator.scaler is None and bool(optimizer.defaults.get("fused"))
        self.keeps_weights = accelerator.device.type == "cpu" or self._gated
        self.watch = LossWatch(checkpoint.tensors("losses") if checkpoint else None)
        self.gradient_norm = torch.tensor(0.0)

    def take(self, passes: list[Batch], *, unscaled: bool = False) -> None:
        """One step of the optimizer, by the gradients of a batch that comes in one or several passes.

        Args:
            passes: of the step.
            unscaled: `gradient_norm` is to be that of the true gradients in fp16, too, where they are scaled.

        Raises:
            NonFiniteStep: a loss or gradient is not finite; see `LossWatch.check_step`.
        """
        factor = learning_rate_factor(self.step, self.steps_per_epoch, self.config.schedule)
        set_learning_rate(self.optimizer, factor)
        batches = [batch.to(self.accelerator.device, non_blocking=True) for batch in passes]
        for losses in self.gradients(self.step, batches):
            self.watch.add(losses)
        clip = self.config.optimizer.clip_grad_norm
        if self.config.optimizer.l1 or clip or unscaled:
            self.accelerator.unscale_gradients()  # Once: a second time would be refused.
        if self.config.optimizer.l1:
            add_l1_gradient(self.optimizer)
        weights = list(self.model.parameters())
        self.gradient_norm = total_norm(weight.grad for weight in weights if weight.grad is not None)
        # A gradient scaler looks for itself, lets some gradients overflow and takes such steps back.
        scaled = self.accelerator.scaler is not None
        self.watch.check_step(self.step, batches, None if scaled else self.gradient_norm)
        if clip:
            nn.utils.clip_grads_with_norm_(weights, clip, self.gradient_norm)
        if self._gated:
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
        epoch = step // self.steps_per_epoch
        self.bare.freeze_backbone(epoch < self.config.schedule.freeze_backbone_epochs)
        images = sum(map(len, batches))
        for index, batch in enumerate(batches):
            with self._synchronising(last=index == len(batches) - 1):
                losses = {name: loss * (len(batch) / images) for name, loss in self.model(batch).items()}
                self.accelerator.backward(torch.stack(list(losses.values())).sum())
            yield losses

    def attempt(self, batch: Batch) -> None:
        """Forward and backward pass of a batch, to see whether it fits into memory; nothing is changed by it."""
        try:
            next(self.gradients(self.step, [batch.to(self.accelerator.device)]))
        finally:
            self.optimizer.zero_grad()

    def search_nonfinite(self, step: int, batches: list[Batch]) -> str:
        """Forward and backward passes of a step, counted from 0, once more: where the first value that is not finite
        comes up; empty if there is none.
        """
        self.optimizer.zero_grad()
        with NonFiniteSearch(self.bare) as search:
            for _ in self.gradients(step, batches):
                pass
        return search.found

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What the next step depends on, as the parts of a checkpoint; called by all processes alike.

        Where weights are divided, only the main process is given them; see `gathered`.
        """
        parts = {
            "model": gathered(self.bare.state_dict()),
            "optimizer": gathered(optimizer_tensors(self.optimizer.optimizer, self._names)),
            "losses": self.watch.tensors(),
        }
        return parts | ({"ema": gathered(self.ema.tensors)} if self.ema else {})

    def scaler(self) -> dict[str, Any]:
        """State of the fp16 gradient scaler; empty without one."""
        return self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {}

    def _synchronising(self, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients only in the last pass of a step."""
        context: AbstractContextManager[None] = nullcontext() if last else self.accelerator.no_sync(self.model)
        return context
