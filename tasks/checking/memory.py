"""How much memory a step of training takes with the largest images, reckoned from two small batches."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tasks.benchmark.process_memory import available_bytes
from tasks.checking.batch import make_batch, passed_at_once
from tasks.checking.clock import Clock
from tasks.checking.finding import Finding, Kind, Place
from tasks.checking.network import Network
from tasks.data.evaluated_size import evaluated_part
from tasks.data.sample import Batch

SIDES = (128, 256)  # pixels of the two batches
SLOTS = {"sgd": 1, "adam": 2, "adamw": 2, "lamb": 2, "rmsprop": 2}  # numbers that an optimizer keeps for each weight
GIB = 2**30

MEMORY_SHORT = Kind(
    "memory-short",
    "warning",
    "A step of training with the largest images is reckoned to take more memory than the device has free: weights, "
    "gradients, optimizer and what is kept for the backward pass, in proportion to images and pixels of two small "
    "batches.",
    "Training ends for want of memory when the largest images come.",
)
MEMORY = Kind(
    "memory",
    "note",
    "The same, where it fits.",
    "An estimate, right to a third or so; without what loaders and evaluation take.",
)


def memory(network: Network) -> Iterator[Finding]:
    """The estimate, and what is free."""
    if network.batch is None or network.start.problem:
        return
    images, pixels, place = _largest(network)
    kept = _kept_bytes(network, images, pixels)
    if kept is None:
        return
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.model.parameters())
    trained = sum(p.numel() * p.element_size() for p in network.model.parameters() if p.requires_grad)
    needed = weights + trained * (1 + SLOTS[network.config.optimizer.name]) + kept
    device = network.accelerator.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    largest = f"{images} images of {round(pixels**0.5)} x {round(pixels**0.5)} pixels or as many"
    seen = f"about {needed / GIB:.1f} GiB for a pass of {largest}; {free / GIB:.1f} GiB are free on {device}"
    if needed > free:
        yield Finding(
            MEMORY_SHORT,
            seen,
            "a step that fits",
            "raise runner.accumulate (the batch size stays), set data.augment.crop or a smaller data.short_side, or "
            "backbone.activation_checkpointing",
            (place,),
        )
    else:
        yield Finding(MEMORY, seen, "less than is free", "nothing to do", (place,))


def _largest(network: Network) -> tuple[int, float, Place]:
    """Images of a pass, pixels of the largest of them after padding, and where that is."""
    data, augment, divisor = network.config.data, network.config.data.augment, network.model.divisor
    looks = network.subject.looks.of("train")
    sizes = np.array([evaluated_part(look.size, data)[0] for look in looks], np.float64)
    if data.size is None and len(data.short_side) > 1:  # the last one was taken
        sizes *= max(data.short_side) / data.short_side[-1]
    if augment.scale_jitter:
        sizes *= augment.scale_jitter[1]
    cut = augment.crop or ((data.center_crop or data.size) if augment.random_resized_crop else None)
    if cut is not None:
        sizes[:] = cut
    padded = np.ceil(sizes / divisor) * divisor
    largest = int(padded.prod(axis=1).argmax())
    return passed_at_once(network.subject), float(padded[largest].prod()), Place("train", looks[largest].index)


def _kept_bytes(network: Network, images: int, pixels: float) -> float | None:
    """Bytes kept for the backward pass: so much an image and so much a pixel, by two measurements."""
    rows, kept = [], []
    for side in SIDES:
        batch = make_batch(network.subject, network.model.divisor, side, Clock(0))
        if batch is None:
            return None
        height, width = batch.sizes.padded
        rows.append([len(batch), len(batch) * height * width])
        kept.append(saved_bytes(network, batch))
    if rows[0][1] == rows[1][1]:
        return kept[1] * images * pixels / rows[1][1]
    per_image, per_pixel = np.linalg.solve(np.array(rows, np.float64), np.array(kept, np.float64))
    return float(max(per_image, 0.0) * images + per_pixel * images * pixels)


def saved_bytes(network: Network, batch: Batch) -> int:
    """Bytes of the tensors that a forward pass keeps for the backward one, weights left out."""
    model = copy.deepcopy(network.model).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), network.accelerator.autocast():
        losses = model(batch.to(network.accelerator.device))
    del losses
    return sum(seen.values())
