"""One process of two, started by torchrun: compares steps with weights divided among them to steps with whole ones.

    torchrun --nproc_per_node 2 distributed_sharding.py FOLDER OPTIMIZER|heads ...

Prints a line for each optimizer, or for all registered heads at once, when all comparisons hold.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from heads import heads
from tasks.checkpoint import Tensors, load_checkpoint, save_checkpoint
from tasks.config import Experiment, OptimizerConfig, RunnerConfig
from tasks.device import build_accelerator
from tasks.model import build_model
from tasks.sharding import gathered, held_whole, own_shares
from tasks.stepper import Stepper
from tests.tasks.steps import CLASSES, batch
from tests.tasks.test_pairs import experiment

DILATED = ("deeplabv3", "deeplabv3plus")
STEPS_PER_EPOCH = 4


def stepper_of(config: Experiment, *, shard: bool, checkpoint: Path | None = None) -> Stepper:
    config = config.model_copy(deep=True)
    config.runner.shard = shard
    torch.manual_seed(0)
    model = build_model(config, dict.fromkeys(config.heads, CLASSES))
    for module in model.modules():
        if isinstance(module, nn.Dropout):  # what it draws depends on the layout of its input in memory
            module.p = 0.0
    begun = load_checkpoint(checkpoint, prefer_best=False) if checkpoint else None
    return Stepper(config, model, build_accelerator(config.runner), STEPS_PER_EPOCH, begun)


def take(stepper: Stepper, steps: int) -> list[float]:
    """Steps on a batch that is another one in each process; the losses that all share."""
    own = batch()
    if distributed.get_rank():
        own.images.copy_(255 - own.images)
    losses = []
    for _ in range(steps):
        stepper.take([own])
        losses.append(sum(stepper.watch.means().values()))
    return losses


def same(ours: Tensors, theirs: Tensors, tolerance: float, share: float = 0.0) -> None:
    """Each tensor up to an absolute tolerance for every number, or up to a share of its norm.

    In the main process, whose running statistics are the ones that are saved.
    """
    if distributed.get_rank():
        return
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert not isinstance(tensor, DTensor), name
        difference = (tensor - theirs[name]).float()
        near = difference.norm() <= share * theirs[name].float().norm()
        assert near or (difference.abs() <= tolerance).all(), (name, difference.abs().max())


def held(stepper: Stepper) -> tuple[int, int]:
    """Numbers in this process's weights, optimizer state and average, and in all of them as a whole."""
    state = (value for slots in stepper.optimizer.state.values() for value in slots.values())
    assert stepper.ema is not None
    every = [*stepper.bare.parameters(), *state, *stepper.ema.tensors.values()]
    return sum(share.numel() for share in own_shares(every)), sum(tensor.numel() for tensor in every)


def compare(config: Experiment, tolerance: float) -> Stepper:
    """Two steps; those of divided weights are given back."""
    whole, shares = stepper_of(config, shard=False), stepper_of(config, shard=True)
    for one, other in zip(take(whole, 2), take(shares, 2), strict=True):
        assert abs(one - other) <= 1e-5 * abs(one), (one, other)
    same(gathered(shares.bare.state_dict()), whole.bare.state_dict(), tolerance)
    # A ReLU at zero decides by rounding whether it passes its gradient on: it shows in single gradients only.
    same(shares.tensors()["optimizer"], whole.tensors()["optimizer"], tolerance, share=0.01)
    mine, all_there_is = held(shares)
    assert mine < 0.52 * all_there_is, (mine, all_there_is)
    return shares


def go_on(config: Experiment, saved: Stepper, folder: Path) -> None:
    """From a checkpoint, bit for bit."""
    tensors = saved.tensors()
    if distributed.get_rank() == 0:
        save_checkpoint(folder, 2, tensors, dict.fromkeys(config.heads, CLASSES), config, {}, STEPS_PER_EPOCH)
    distributed.barrier()
    again = stepper_of(config, shard=True, checkpoint=folder / "step_00000002")
    assert take(again, 1) == take(saved, 1)
    for part, named in saved.tensors().items():
        same(again.tensors()[part], named, 0)


RUNNER = RunnerConfig(device="cpu", precision="fp32", ema_decay=0.9)


def optimizers(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        config = experiment("resnet18", ["unet"])
        config.optimizer, config.runner = OptimizerConfig(name=name, lr=1e-5, clip_grad_norm=1.0, l1=1e-6), RUNNER
        config.backbone.activation_checkpointing = name == "lamb"
        stepper = compare(config, 3e-5)
        with held_whole(stepper.bare), torch.inference_mode():
            if distributed.get_rank():  # as many predictions in each process as it likes
                stepper.bare.eval().predict(batch())
        go_on(config, stepper, folder / name)
        print(f"{name} equal", flush=True)


def every_head() -> None:
    for dilated in (False, True):
        names = [name for name in heads.names() if (name in DILATED) == dilated]
        config = experiment("resnet18", names, 16 if dilated else None)
        config.optimizer, config.runner = OptimizerConfig(lr=1e-4), RUNNER
        compare(config, 1e-5)
        print(f"{', '.join(names)} equal", flush=True)


if __name__ == "__main__":
    every_head() if sys.argv[2:] == ["heads"] else optimizers(Path(sys.argv[1]), sys.argv[2:])
    distributed.destroy_process_group()
