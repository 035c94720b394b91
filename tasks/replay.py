"""Takes one step of a run again, exactly as it was taken, and shows what went on in it."""

import json
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from backbones.errors import UserError
from tasks.checkpoint import Checkpoint
from tasks.evidence import checkpoint_behind, nearest_checkpoint, saved_batches
from tasks.experiment_file import read_experiment
from tasks.optim import learning_rate_factor
from tasks.progress import Reporter
from tasks.runner import Runner
from tasks.sharding import total_norm
from tasks.training import build_runner


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a step was.

    Attributes:
        step: counted from 1, as in metrics.jsonl.
        losses: by name, of all passes together.
        gradient_norm: of all gradients together, before they are clipped.
        module_gradient_norms: of the weights of each module, by its name.
        first_not_finite: where the first value that is not finite came up; empty if all are finite.
        lr: the largest learning rate.
        image_ids: in the order of the batch.
        files: of the same images.
        sizes: (height, width) of the same images as the network saw them.
        loading_seconds: of the batch, in this process.
        gradient_seconds: of the forward and backward passes.
    """

    step: int
    losses: dict[str, float]
    gradient_norm: float
    module_gradient_norms: dict[str, float]
    first_not_finite: str
    lr: float
    image_ids: list[int]
    files: list[str]
    sizes: list[tuple[int, int]]
    loading_seconds: float
    gradient_seconds: float


def replay(run: Path, step: int, out: Path | None = None) -> Replayed:
    """Take a step again from the last checkpoint before it, or from what was kept of it, and print what it was.

    Nothing is written into the run. On a CPU every number is that of the run, to the last bit, where as many processes
    take part.

    Args:
        run: a run folder.
        step: counted from 1, as in metrics.jsonl.
        out: also write it all to this json file.

    Raises:
        UserError: there is no such run or step, or its data or a checkpoint cannot be used.
    """
    if not (run / "config.json").is_file():
        raise UserError(f"{run}: no run; expected a folder with config.json and checkpoints in it")
    if step < 1:
        raise UserError(f"--step is {step}; expected one from 1 on, as in {run / 'metrics.jsonl'}")
    start = nearest_checkpoint(run, step)
    decides = checkpoint_behind(run, step) or start
    config = decides.config if decides else read_experiment(run / "config.json").experiment
    config.data.workers = 0  # they change nothing, and most steps are one batch away
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(config, out=Path(folder) / "replay", start=start)
        if step > runner.total_steps:
            raise UserError(f"--step is {step}, but {run} has {runner.total_steps} steps")
        found = _take(runner, run, step)
    _show(runner.reporter, found, start)
    if out is not None and runner.accelerator.is_main_process:
        values = {name: getattr(found, name) for name in Replayed.__dataclass_fields__}
        out.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return found


def _take(runner: Runner, run: Path, step: int) -> Replayed:
    index, each = step - 1, runner.loader.steps_per_epoch
    if runner.step < index:
        runner.reporter.say(f"steps {runner.step + 1} to {index} first, to get to step {step}")
    while runner.step < index:
        for passes in islice(runner.loader.steps(*divmod(runner.step, each)), index - runner.step):
            runner.stepper.take(passes)
    begun = time.perf_counter()
    saved = saved_batches(run, step, runner.accelerator.process_index)
    passes = saved or next(runner.loader.steps(*divmod(index, each)))
    loaded = time.perf_counter()
    batches = [batch.to(runner.accelerator.device) for batch in passes]
    losses: dict[str, Tensor] = {}
    stepper = runner.stepper
    for weighted in stepper.gradients(index, batches):
        losses = {
            name: losses[name] + loss.detach() if name in losses else loss.detach() for name, loss in weighted.items()
        }
    runner.accelerator.unscale_gradients()
    norms = gradient_norms(stepper.bare)
    gradients = [weight.grad for weight in stepper.bare.parameters() if weight.grad is not None]
    total = float(total_norm(gradients))
    ended = time.perf_counter()
    first = ""
    if not all(torch.isfinite(torch.tensor([*map(float, losses.values()), total]))):
        first = stepper.search_nonfinite(index, batches) or "nothing, when it was taken once more"
    factor = learning_rate_factor(index, each, runner.config.schedule)
    return Replayed(
        step,
        {name: float(loss) for name, loss in losses.items()},
        total,
        norms,
        first,
        max(group["base_lr"] for group in stepper.optimizer.param_groups) * factor,
        [image for batch in passes for image in batch.image_ids],
        [file for batch in passes for file in batch.files],
        [(height, width) for batch in passes for height, width in batch.sizes.valid.tolist()],
        loaded - begun,
        ended - loaded,
    )


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Euclidean norm of the gradients of the weights that each module holds itself, by its name."""
    norms = {}
    for name, module in model.named_modules():
        own = [weight.grad for weight in module.parameters(recurse=False) if weight.grad is not None]
        if own:
            norms[name] = float(total_norm(own))
    return norms


def _show(reporter: Reporter, found: Replayed, start: Checkpoint | None) -> None:
    reporter.say(f"step {found.step}, from {start.folder if start else 'the initial weights of the config'}")
    images = zip(found.files, found.image_ids, found.sizes, strict=True)
    rows = [(file, str(image), f"{height} x {width}") for file, image, (height, width) in images]
    reporter.table("images", ("file", "id", "height x width"), rows)
    reporter.table("losses", ("loss", "value"), [(name, f"{loss:.9g}") for name, loss in found.losses.items()])
    rows_of_norms = [(name, f"{norm:.6g}") for name, norm in found.module_gradient_norms.items()]
    reporter.table("gradients", ("module", "norm"), [*rows_of_norms, ("all", f"{found.gradient_norm:.9g}")])
    reporter.say(f"learning rate {found.lr:.6g}")
    reporter.say(f"loading {found.loading_seconds:.3f} s, forward and backward {found.gradient_seconds:.3f} s")
    reporter.say(
        f"not finite: first in {found.first_not_finite}" if found.first_not_finite else "all values are finite"
    )
