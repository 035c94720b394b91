"""The network of an experiment as a run would begin with it, and a batch to try it on."""

import copy
from collections.abc import Iterator
from functools import cached_property

import torch
from accelerate.accelerator import Accelerator

from backbones.errors import UserError
from tasks.checking.batch import make_batch
from tasks.checking.finding import Finding, Kind
from tasks.checking.first_pass import FirstPass, first_pass
from tasks.checking.subject import Subject
from tasks.config import Experiment
from tasks.data.sample import Batch
from tasks.device import build_accelerator
from tasks.initial_weights import load_initial_weights
from tasks.model import Model, build_model
from tasks.seeding import derive_seed
from tasks.training_statistics import fill_from_data

SIDE = 192  # pixels of the images of the batch, at most

NETWORK_UNUSABLE = Kind(
    "network-unusable",
    "error",
    "The network, its optimizer or its device cannot be set up from the config.",
    "Training would not begin.",
)
WEIGHTS_UNUSABLE = Kind(
    "weights-unusable",
    "error",
    "The weights that the config names are missing, damaged, or of another architecture.",
    "Training would not begin. The other checks go on from random weights.",
)
WEIGHTS_DOUBTFUL = Kind(
    "weights-doubtful",
    "warning",
    "The weights expect other images, strides or options than the config has; or parts of the network are frozen at "
    "random weights.",
    "Training begins worse than it could, or parts of the network never learn.",
)


class Network:
    """The network of a subject.

    Args:
        subject: its data is read already.

    Attributes:
        config: a copy of the experiment, with what follows from the data filled in.
        told: lines about its initial weights.
        problem: why the weights that the config names cannot be loaded; empty if they were.
        tried: the network after a few steps of training, once they were taken.

    Raises:
        UserError: it cannot be built.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.config: Experiment = subject.config.model_copy(deep=True)
        fill_from_data(self.config, subject.train)
        self.accelerator: Accelerator = build_accelerator(self.config.runner)
        self.told: list[str] = []
        self.problem = ""
        self.tried: Model | None = None

    @cached_property
    def model(self) -> Model:
        """With its initial weights, on the device that trains."""
        torch.manual_seed(derive_seed(self.config.runner.seed, "initial weights"))
        model = build_model(self.config, self.subject.labels)
        try:
            self.told = load_initial_weights(model, self.config, self.subject.labels, None)
        except UserError as error:
            self.problem = str(error)
        return model.to(self.accelerator.device).to(memory_format=torch.channels_last)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return max(1, len(self.subject.train) // self.config.data.batch_size)

    @cached_property
    def batch(self) -> Batch | None:
        """The batch to try it on; None where no image can be used."""
        return make_batch(self.subject, self.model.divisor, SIDE, self.subject.clock.portion(0.05))

    @cached_property
    def start(self) -> FirstPass:
        """The first pass of training on that batch."""
        assert self.batch is not None  # the caller has asked
        return first_pass(self.accelerator, copy.deepcopy(self.model), self.batch)


def weights(network: Network) -> Iterator[Finding]:
    """What is known of the initial weights."""
    assert network.model is not None  # which loads them
    if network.problem:
        yield Finding(
            WEIGHTS_UNUSABLE,
            network.problem,
            "weights for this network",
            "give them with --backbone.weights FILE, or None to begin with random ones",
        )
    for line in network.told:
        if line.startswith("warning: "):
            yield Finding(
                WEIGHTS_DOUBTFUL,
                line.removeprefix("warning: "),
                "weights, images and options that belong together",
                "follow the advice, unless it is meant so",
            )
