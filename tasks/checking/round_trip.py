"""Saving the network and loading it again."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from heads.contract import Detections, ImageLabels, Prediction, SemanticMasks
from tasks.checking.finding import Finding, Kind, some
from tasks.checking.network import Network
from tasks.checkpoint import load_checkpoint, save_checkpoint
from tasks.checkpoint_fit import load_weights_strictly
from tasks.data.sample import Batch
from tasks.model import Model, build_model

CHECKPOINT_DIFFERS = Kind(
    "checkpoint-differs",
    "error",
    "The network that was saved as a checkpoint and loaded again has other weights or predictions.",
    "What is trained cannot be used: something that predictions depend on is not in the state dict.",
)


@torch.inference_mode()
def checkpoint(network: Network) -> Iterator[Finding]:
    """Save, load, compare."""
    if network.batch is None or network.start.problem:
        return
    ours = copy.deepcopy(network.tried if network.tried is not None else network.model).cpu().eval()
    with tempfile.TemporaryDirectory(prefix="polyhead-check-") as folder:
        tensors = {"model": ours.state_dict()}
        saved = save_checkpoint(Path(folder), 0, tensors, network.subject.labels, network.config, {}, 1)
        loaded = load_checkpoint(saved, prefer_best=False)
        theirs = build_model(loaded.config, loaded.labels).to(memory_format=torch.channels_last)
        load_weights_strictly(theirs, loaded.tensors("model"), saved)
    other = [
        name
        for (name, own), loaded_tensor in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
        if not torch.equal(own, loaded_tensor)
    ]
    wrong = [f"the tensors {some(other)}"] if other else []
    wrong += [f"the predictions of {head}" for head in _unequal(ours, theirs.eval(), network.batch)]
    if wrong:
        yield Finding(
            CHECKPOINT_DIFFERS,
            f"{', '.join(wrong)} differ after loading",
            "the same weights and predictions",
            "register what a plug-in depends on as parameters or buffers",
        )


def _unequal(ours: Model, theirs: Model, batch: Batch) -> list[str]:
    before, after = ours.predict(batch), theirs.predict(batch)
    return [
        head
        for head in before
        if not all(map(_same, before[head], after[head])) or len(before[head]) != len(after[head])
    ]


def _same(one: Prediction, other: Prediction) -> bool:
    match one, other:
        case Detections(), Detections():
            pairs = [(one.boxes, other.boxes), (one.scores, other.scores), (one.labels, other.labels)]
        case ImageLabels(), ImageLabels():
            pairs = [(one.scores, other.scores)]
        case SemanticMasks(), SemanticMasks():
            pairs = [(one.masks, other.masks)]
        case _:
            return False
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
