"""Which images make up which batch, and samples padded into one."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from backbones.errors import UserError
from heads.contract import IGNORED, BoxTargets, ImageSizes, LabelTargets, MaskTargets, Outlines, Targets
from tasks.data.sample import Batch, Sample, SampleKey
from tasks.seeding import derive_seed


class Draw(Protocol):
    """Which images an epoch takes; the same number in each."""

    def __len__(self) -> int: ...

    def __call__(self, epoch: int) -> npt.NDArray[np.int64]: ...


class BatchPlan:
    """All batches of every epoch, known beforehand: a pure function of the seed and the epoch.

    Training shuffles, puts landscape and portrait images into batches of their own (so that little is padded), and
    leaves out what does not fill the last batch; a set smaller than a batch makes one smaller batch. Evaluation takes
    every image once, in a fixed order.

    A batch is divided among the processes, and then among the passes of a step, in contiguous parts: together they see
    exactly what one process would in one pass.

    Args:
        sizes: (I, 2) annotated height and width of the images; 0 0 counts as landscape.
        batch_size: images a batch, over all processes and passes.
        seed: of the shuffling.
        training: as above.
        world_size: processes.
        passes: parts that each process takes its share in.
        weights: (I,) how often training draws each image in comparison; None takes each once. An epoch has the same
            number of steps. An image whose share of the draws is 2.3 is drawn 2 or 3 times (systematic resampling,
            Kitagawa 1996), so that equal weights, too, take each once.
        draw: which images training takes, where those of an epoch are not each image once; with it, no `weights`.
        repeats: training draws each image so many times in a row, and as many fewer of them (repeated augmentation,
            Hoffer et al., "Augment Your Batch", arXiv:1901.09335, and Berman et al., "MultiGrain", arXiv:1902.05509,
            section 3.3).

    Raises:
        UserError: a training batch cannot be divided evenly.
    """

    def __init__(
        self,
        sizes: npt.NDArray[np.int32],
        batch_size: int,
        *,
        seed: int = 0,
        training: bool,
        world_size: int = 1,
        passes: int = 1,
        weights: npt.NDArray[np.floating] | None = None,
        repeats: int = 1,
        draw: Draw | None = None,
    ) -> None:
        parts = world_size * passes
        if batch_size < 1 or (training and batch_size % parts):
            raise UserError(
                f"data.batch_size is {batch_size}; expected a multiple of {parts} ({world_size} processes x "
                f"{passes} passes of "
                "runner.accumulate)"
            )
        self._draw, self._images = draw, len(sizes) if draw is None else len(draw)
        if training and self._images < batch_size:
            batch_size = self._images // parts * parts
            if not batch_size:
                raise UserError(
                    f"{self._images} training images cannot be divided among {world_size} processes x {passes} passes "
                    f"of runner.accumulate; expected at least {parts} images: use fewer processes or passes"
                )
        self._landscape = sizes[:, 1] >= sizes[:, 0]
        self.batch_size, self.seed, self.training = batch_size, seed, training
        self.world_size, self.passes, self.repeats = world_size, passes, repeats
        self._weights = None if weights is None else np.asarray(weights, np.float64)

    def __len__(self) -> int:
        """Batches an epoch, the same in each."""
        return self._images // self.batch_size if self.training else -(-self._images // self.batch_size)

    def batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Indices of the images of each batch."""
        if not self.training:
            order = np.argsort(~self._landscape, kind="stable")
            return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        order = self._order(epoch)
        order = np.repeat(order[: -(-len(order) // self.repeats)], self.repeats)[: len(order)]
        groups = [order[self._landscape[order]], order[~self._landscape[order]]]
        whole = [len(group) // self.batch_size * self.batch_size for group in groups]
        full = [group[:n].reshape(-1, self.batch_size) for group, n in zip(groups, whole, strict=True)]
        # What is left of both shapes fills at most one more batch, so that every epoch has the same number.
        rest = np.concatenate([group[n:] for group, n in zip(groups, whole, strict=True)])
        rest = rest[: len(rest) // self.batch_size * self.batch_size].reshape(-1, self.batch_size)
        batches = np.concatenate([*full, rest])
        batches = batches[np.random.default_rng(derive_seed(self.seed, "batches", epoch)).permutation(len(batches))]
        return list(batches)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The images of an epoch, in their order."""
        if self._draw is not None:
            return self._draw(epoch)
        random = np.random.default_rng(derive_seed(self.seed, "order", epoch))
        return shuffled(len(self._landscape), self._weights, random)

    def parts(self, epoch: int, rank: int = 0, start: int = 0) -> Iterator[list[SampleKey]]:
        """What process `rank` loads, part by part, from batch `start` on: `passes` parts a batch.

        In evaluation a part may be empty; it is left out.
        """
        batches = self.batches(epoch)
        if not batches:
            return
        flat, ends = np.concatenate(batches), np.cumsum([len(batch) for batch in batches])
        for batch in np.split(np.stack([flat, _repeats(flat)], 1), ends[:-1])[start:]:
            share = np.array_split(batch, self.world_size)[rank]
            for part in np.array_split(share, self.passes):
                if len(part):
                    yield [SampleKey(index, epoch, repeat) for index, repeat in part.tolist()]


def shuffled(
    images: int, weights: npt.NDArray[np.float64] | None, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(images,) numbers of images in random order: each once, or as often as `weights` (images,) say.

    See `BatchPlan` for the weights.
    """
    order = random.permutation(images)
    if weights is None:
        return order
    # Evenly spaced points on the line of all weights, in an order that is another one each epoch, so that no two
    # images exclude each other forever.
    ends = np.cumsum(weights[order])
    points = (np.arange(images) + random.random()) / images * ends[-1]
    # The last point may be rounded onto the end; an image of weight 0 is never met.
    drawn = np.searchsorted(ends, points.clip(max=np.nextafter(ends[-1], 0)), side="right")
    return random.permutation(order[drawn])


def _repeats(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,), how many times each index was there before."""
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    repeats = np.empty_like(indices)
    repeats[order] = np.arange(len(indices)) - np.searchsorted(ordered, ordered)
    return repeats


def collate(samples: Sequence[Sample], divisor: int) -> Batch:
    """Pad samples at the right and bottom into one batch.

    Args:
        samples: B samples of equal channels and type.
        divisor: height and width of the batch become multiples of this, the backbone's divisor.
    """
    sizes = np.array([sample.image.shape[:2] for sample in samples], np.int64)
    height, width = (-(-sizes.max(0) // divisor) * divisor).tolist()
    first = samples[0].image
    dtype = np.uint8 if first.dtype == np.uint8 else np.float32
    images = np.zeros((len(samples), height, width, first.shape[2]), dtype)
    most = max(len(sample.boxes) for sample in samples)
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.full((len(samples), most), -1)
    crowd = torch.zeros(len(samples), most, dtype=torch.bool)
    for row, sample in enumerate(samples):
        (h, w), n = sample.image.shape[:2], len(sample.boxes)
        images[row, :h, :w] = sample.image
        boxes[row, :n] = torch.from_numpy(sample.boxes)
        labels[row, :n] = torch.from_numpy(sample.labels)
        crowd[row, :n] = torch.from_numpy(sample.crowd)
    original = torch.tensor([sample.original_size for sample in samples])
    annotated = torch.ones(len(samples), dtype=torch.bool)
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2),  # channels-last in memory as it is
        sizes=ImageSizes((height, width), torch.from_numpy(sizes), original),
        targets=Targets(
            torch.tensor([sample.seed for sample in samples]),
            BoxTargets(boxes, labels, crowd, annotated, _outlines(samples, most, (height, width))),
            _label_targets(samples),
            _mask_targets(samples, (height, width)),
        ),
        image_ids=tuple(sample.image_id for sample in samples),
        files=tuple(sample.file for sample in samples),
        fed=_fed(samples),
    )


def _outlines(samples: Sequence[Sample], most: int, size: tuple[int, int]) -> Outlines | None:
    """Of up to `most` objects an image, in images of `size`; packed one by one, so that never all are whole."""
    found = [(sample.outlines, sample.outlined) for sample in samples]
    if all(outlines is None for outlines, _ in found):
        return None
    height, width = size
    bits = torch.zeros(len(samples), most, height, -(-width // 8), dtype=torch.uint8)
    known = torch.zeros(len(samples), most, dtype=torch.bool)
    for row, (outlines, outlined) in enumerate(found):
        if outlines is None or outlined is None:
            continue
        for number, outline in enumerate(outlines):
            packed = np.packbits(outline, axis=1)
            bits[row, number, : packed.shape[0], : packed.shape[1]] = torch.from_numpy(packed)
        known[row, : len(outlined)] = torch.from_numpy(outlined)
    return Outlines(bits, known)


def _label_targets(samples: Sequence[Sample]) -> LabelTargets | None:
    rows = [np.zeros(0, np.float32) if sample.image_labels is None else sample.image_labels for sample in samples]
    # Where nothing is known of any image, nothing tells how many classes there are.
    if not any(map(len, rows)):
        return None
    values = torch.zeros(len(rows), max(map(len, rows)))
    for value, row in zip(values, rows, strict=True):
        value[: len(row)] = torch.from_numpy(row)
    return LabelTargets(values, torch.tensor([len(row) > 0 for row in rows]))


def _mask_targets(samples: Sequence[Sample], size: tuple[int, int]) -> MaskTargets | None:
    drawn = [sample.masks for sample in samples]
    planes = max((mask.shape[2] for mask in drawn if mask is not None), default=0)
    if not planes:
        return None
    masks = torch.full((len(drawn), planes, *size), IGNORED, dtype=torch.uint8)
    for mask, own in zip(masks, drawn, strict=True):
        if own is not None:
            height, width, count = own.shape
            mask[:count, :height, :width] = torch.from_numpy(np.ascontiguousarray(own)).permute(2, 0, 1)
    return MaskTargets(masks, torch.tensor([mask is not None for mask in drawn]))


def _fed(samples: Sequence[Sample]) -> torch.Tensor | None:
    rows = [sample.fed for sample in samples if sample.fed is not None]
    return torch.tensor(rows) if rows else None
