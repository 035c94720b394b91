"""Loader processes: batches of one process of a run, in the order of its plan."""

import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from backbones.errors import UserError
from tasks.config import DataConfig, ScheduleConfig
from tasks.data.annotations import Annotations
from tasks.data.balance import sampling_weights
from tasks.data.batches import BatchPlan, collate
from tasks.data.dataset import Dataset
from tasks.data.mixture import Mixture
from tasks.data.sample import Batch, Sample, SampleKey, Samples
from tasks.data.wanted import Wanted
from tasks.data.worker_count import UNMEASURED, Budget, WorkerCount, cores_here, measure_workers
from tasks.data.worker_watch import LoadingFailed, WorkerWatch
from tasks.image_spec import ImageSpec

Made = Batch | UserError | LoadingFailed


class TrainingLoader:
    """Training batches of one process.

    Args:
        annotations: the training split, or a mixture of several.
        config: batch size, workers, sizes, augmentation, balance.
        spec: of the images.
        seed: of order and augmentation.
        divisor: batches are padded to multiples of this.
        passes: forward and backward passes a step.
        rank: of this process.
        world_size: processes.
        pin_memory: copy batches to page-locked memory, for CUDA.
        start_method: how loader processes start, "fork" or "spawn"; None is the platform's way.
        wanted: the targets that samples bring; those of a mixture are its own.
        schedule: of the run, whose last epochs may be without mosaic.
        budget: what decides how many workers `auto` is; None: as many as there are cores, 4 at most.

    Attributes:
        worker_count: how many there are and why, where that was measured; else None.

    Raises:
        UserError: the batch size cannot be divided among processes and passes, there is nothing to balance by, or no
            epoch with mosaic.
    """

    def __init__(
        self,
        annotations: Annotations | Mixture,
        config: DataConfig,
        spec: ImageSpec,
        *,
        seed: int,
        divisor: int,
        passes: int = 1,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
        start_method: str | None = None,
        wanted: Wanted | None = None,
        schedule: ScheduleConfig | None = None,
        budget: Budget | None = None,
    ) -> None:
        plan = BatchPlan(
            annotations.sizes.numpy(),
            config.batch_size,
            seed=seed,
            training=True,
            world_size=world_size,
            passes=passes,
            weights=sampling_weights(annotations, config.balance) if isinstance(annotations, Annotations) else None,
            repeats=config.repeats,
            draw=annotations.draw(seed) if isinstance(annotations, Mixture) else None,
        )
        self.passes = passes
        self.steps_per_epoch = len(plan)
        until = None if schedule is None else mosaic_until(config.augment.close_mosaic, schedule, len(plan))
        dataset: Samples = (
            annotations.samples(spec, seed, until)
            if isinstance(annotations, Mixture)
            else Dataset(annotations, config, spec, seed=seed, training=True, wanted=wanted, mosaic_until=until)
        )
        self._parts = _Parts(plan, rank)
        self.worker_count: WorkerCount | None = None
        workers = config.workers
        if workers == "auto" and budget is not None and len(plan):
            self.worker_count = measure_workers(dataset, next(iter(self._parts)), divisor, budget, cores_here())
            workers = self.worker_count.workers
        self._loader = _data_loader(dataset, self._parts, divisor, workers, pin_memory, start_method)

    def steps(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """The steps of an epoch from step `start` on, each as its `passes` batches; skipped images are not loaded.

        Raises:
            UserError: an image cannot be used.
        """
        self._parts.epoch, self._parts.start = epoch, start
        batches = _unwrap(self._loader)
        while step := list(islice(batches, self.passes)):
            yield step


class EvaluationLoader:
    """Every image of a split once, over all processes, in a fixed order; iterate it as often as needed."""

    def __init__(self, loader: "DataLoader[Made]", parts: "_Parts") -> None:
        self._loader, self._parts = loader, parts

    def __len__(self) -> int:
        """Batches of this process."""
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        return _unwrap(self._loader)


def evaluation_loader(
    annotations: Annotations,
    config: DataConfig,
    spec: ImageSpec,
    *,
    divisor: int,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    start_method: str | None = None,
    workers: int | None = None,
) -> EvaluationLoader:
    """Batches to evaluate on, `config.batch_size` images over all processes.

    `workers` are those of the config if None; the other arguments are as for `TrainingLoader`.
    """
    dataset = Dataset(annotations, config, spec, training=False)
    plan = BatchPlan(annotations.sizes.numpy(), config.batch_size, training=False, world_size=world_size)
    parts = _Parts(plan, rank)
    chosen = config.workers if workers is None else workers
    return EvaluationLoader(_data_loader(dataset, parts, divisor, chosen, pin_memory, start_method), parts)


class _Parts(Sampler[list[SampleKey]]):
    """What to load next; read in the main process only, so that workers can live on from epoch to epoch."""

    def __init__(self, plan: BatchPlan, rank: int) -> None:
        self.plan, self.rank = plan, rank
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self.plan.parts(self.epoch, self.rank, self.start)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _BatchMaker(torch.utils.data.Dataset[Made]):
    """Makes whole batches where the samples are read.

    A mistake of the user's is handed back as a value: raised in a worker it would arrive wrapped in that worker's
    traceback. Other errors are, too, with the image they are about.
    """

    def __init__(self, dataset: Samples, divisor: int, workers: int) -> None:
        self.dataset, self.divisor = dataset, divisor
        self.watch = WorkerWatch(dataset, workers)

    def __getitem__(self, keys: list[SampleKey]) -> Made:
        try:
            return collate([self._sample(key) for key in keys], self.divisor)
        except UserError as error:
            return error
        except Exception as error:
            return self.watch.failed(error)

    def _sample(self, key: SampleKey) -> Sample:
        self.watch.begin(key.index)
        return self.dataset[key]


def _data_loader(
    dataset: Samples,
    parts: _Parts,
    divisor: int,
    workers: int | Literal["auto"],
    pin_memory: bool,
    start_method: str | None,
) -> "DataLoader[Made]":
    # More workers than cores only take each other's time, and torch would warn.
    processes = min(UNMEASURED if workers == "auto" else workers, cores_here())
    return DataLoader(
        _BatchMaker(dataset, divisor, processes),
        batch_size=None,
        sampler=parts,
        num_workers=processes,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        multiprocessing_context=start_method if processes else None,
        persistent_workers=processes > 0,
    )


def mosaic_until(close: int, schedule: ScheduleConfig, steps_per_epoch: int) -> int | None:
    """Epochs with mosaic; None: all of them."""
    if not close:
        return None
    epochs = schedule.epochs if schedule.steps is None else -(-schedule.steps // max(steps_per_epoch, 1))
    if close >= epochs:
        raise UserError(
            f"data.augment.close_mosaic is {close}, but training takes {epochs} epochs; expected fewer, so that some "
            "have mosaic, or data.augment.mosaic 0"
        )
    return epochs - close


def _unwrap(loader: "DataLoader[Made]") -> Iterator[Batch]:
    for item in loader:
        if isinstance(item, UserError):
            # A new one: `item` would hold its traceback, that this frame, and this frame `item`. Such a circle keeps
            # the workers until the garbage collector comes, which takes their queues first and then waits in vain.
            raise UserError(*item.args)
        if isinstance(item, LoadingFailed):
            raise item.tell()
        yield item


def _as_it_is(made: Any) -> Any:
    return made


def _prepare_worker(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the main one decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One thread a worker: they are the parallelism, and cv2's thread pool does not survive a fork.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
