"""Several data sets as one: which of their images an epoch takes, by ratio, and their samples by one number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.errors import UserError
from tasks.config import DataConfig
from tasks.data.annotations import Annotations
from tasks.data.balance import sampling_weights
from tasks.data.batches import shuffled
from tasks.data.dataset import Dataset
from tasks.data.sample import Sample, SampleKey
from tasks.data.wanted import Wanted
from tasks.image_spec import ImageSpec
from tasks.seeding import derive_seed

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One data set of a mixture.

    Attributes:
        name: of the source.
        annotations: its training split.
        config: how its images are read, resized and changed.
        wanted: the targets that its samples bring.
        fed: whether each head that learns, in the order of the config, learns from it.
        ratio: how many images of an epoch are its own, in comparison; None: as many as it has.
    """

    name: str
    annotations: Annotations
    config: DataConfig
    wanted: Wanted
    fed: tuple[bool, ...]
    ratio: float | None = None


class Mixture:
    """Several training splits as one, whose images are numbered through.

    Args:
        ingredients: at least one.

    Raises:
        UserError: an ingredient would have no image in an epoch.
    """

    def __init__(self, ingredients: Sequence[Ingredient]) -> None:
        self.ingredients = ingredients
        self.ends: Indices = np.cumsum([len(own.annotations) for own in ingredients])
        self.shares = _shares(ingredients, int(self.ends[-1]))

    @property
    def sizes(self) -> Tensor:
        """(I, 2) int32, annotated height and width of all images."""
        return torch.cat([own.annotations.sizes for own in self.ingredients])

    def draw(self, seed: int) -> "MixedDraw":
        """Which images an epoch takes, a function of `seed` and the epoch."""
        return MixedDraw(self, seed)

    def samples(self, spec: ImageSpec, seed: int, mosaic_until: int | None) -> "MixedSamples":
        """Their samples; arguments as for `Dataset`."""
        datasets = [
            Dataset(
                own.annotations,
                own.config,
                spec,
                seed=derive_seed(seed, "source", own.name),
                training=True,
                wanted=own.wanted,
                mosaic_until=mosaic_until,
            )
            for own in self.ingredients
        ]
        return MixedSamples(datasets, [own.fed for own in self.ingredients], self.ends)

    def __str__(self) -> str:
        parts = (
            f"{share} of {own.name} ({len(own.annotations)})"
            for own, share in zip(self.ingredients, self.shares, strict=True)
        )
        return f"an epoch takes {sum(self.shares)} images: {', '.join(parts)}"


class MixedDraw:
    """Which images of a mixture an epoch takes, in which order.

    An epoch takes as many images as all ingredients hold together, and of each its share. An ingredient goes through
    its own images again and again, each time in a new order, and an epoch goes on where the last one stopped: so all of
    its images are drawn equally often, however many an epoch takes. Those of an epoch are shuffled. Both are functions
    of the seed and the epoch alone.
    """

    def __init__(self, mixture: Mixture, seed: int) -> None:
        self.mixture, self.seed = mixture, seed
        self._weights = [sampling_weights(own.annotations, own.config.balance) for own in mixture.ingredients]

    def __len__(self) -> int:
        return sum(self.mixture.shares)

    def __call__(self, epoch: int) -> Indices:
        """(len(self),) numbers of images."""
        starts = [0, *self.mixture.ends[:-1].tolist()]
        drawn = np.concatenate([start + self._own(number, epoch) for number, start in enumerate(starts)])
        random = np.random.default_rng(derive_seed(self.seed, "mixture", epoch))
        order: Indices = random.permutation(drawn)
        return order

    def _own(self, number: int, epoch: int) -> Indices:
        """What the ingredient of this number adds to an epoch, numbered as it does itself."""
        own, share = self.mixture.ingredients[number], self.mixture.shares[number]
        images, first = len(own.annotations), epoch * share
        rounds = range(first // images, (first + share - 1) // images + 1)
        orders = [
            shuffled(
                images,
                self._weights[number],
                np.random.default_rng(derive_seed(self.seed, "order", own.name, once)),
            )
            for once in rounds
        ]
        begin = first - rounds[0] * images
        return np.concatenate(orders)[begin : begin + share]


class MixedSamples:
    """Samples of several data sets by one number.

    Args:
        datasets: the data sets.
        fed: of each, see `Ingredient`.
        ends: (S,) where the numbers of each end.
    """

    def __init__(self, datasets: Sequence[Dataset], fed: Sequence[tuple[bool, ...]], ends: Indices) -> None:
        self.datasets, self.fed, self.ends = datasets, fed, ends

    def __getitem__(self, key: SampleKey) -> Sample:
        """One sample. Raises `UserError` as `Dataset` does."""
        number = int(np.searchsorted(self.ends, key.index, side="right"))
        dataset = self.datasets[number]
        sample = dataset[replace(key, index=key.index - int(self.ends[number]) + len(dataset))]
        sample.fed = self.fed[number]
        return sample

    def describe(self, index: int) -> str:
        """Path of an image, for messages."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        dataset = self.datasets[number]
        return dataset.describe(index - int(self.ends[number]) + len(dataset))


def _shares(ingredients: Sequence[Ingredient], images: int) -> list[int]:
    """How many of the images of an epoch each ingredient gives, rounded so that they add up (largest remainders)."""
    ratios = np.array([own.ratio or len(own.annotations) for own in ingredients], np.float64)
    exact = images * ratios / ratios.sum()
    shares = np.floor(exact + 1e-9).astype(int)
    for number in np.argsort(shares - exact, kind="stable")[: images - shares.sum()]:
        shares[number] += 1
    for own, share in zip(ingredients, shares.tolist(), strict=True):
        if not share:
            raise UserError(
                f"data.sources.{own.name}.ratio is {own.ratio:g}, which is not one of the {images} images of an epoch; "
                "expected a larger number in comparison with the others"
            )
    return [int(share) for share in shares]
