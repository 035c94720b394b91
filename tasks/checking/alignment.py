"""Whether annotations lie on what is in the images: outlines of boxes and masks against edges of the pictures.

Every image and its outlines are brought to one small square. How well outlines lie on edges is their correlation, for
every shift at once by Fourier transforms, and for the seven ways of turning and mirroring. Each image's correlations
are scaled to a deviation of 1 over all shifts, so that the sum over images tells chance from a rule.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from backbones.errors import UserError
from tasks.checking.finding import Finding, Kind, Place, Side, first
from tasks.checking.looks import spread
from tasks.checking.subject import Subject
from tasks.data.files.image_file import Pixels
from tasks.data.semantic import semantic_masks

Floats = npt.NDArray[np.float64]

SIDE = 128  # pixels of the square
IMAGES, FEWEST = 60, 8  # of a split, that are looked at, and that say something
SURE = 6.0  # standard deviations that a better place must stand out by
BETTER = 1.6  # times the fit where the annotations are
FAR = 3  # pixels of the square that outlines may be off
CHANCE, ENOUGH = 3.0, 20  # standard deviations; images
TURNS: dict[str, Callable[[Floats], Floats]] = {
    "mirrored left to right": lambda m: m[:, ::-1],
    "mirrored upside down": lambda m: m[::-1],
    "turned by half": lambda m: m[::-1, ::-1],
    "with x and y exchanged": lambda m: m.T,
    "turned by a quarter to the left": lambda m: m.T[::-1],
    "turned by a quarter to the right": lambda m: m.T[:, ::-1],
    "with x and y exchanged and turned by half": lambda m: m.T[::-1, ::-1],
}

ANNOTATIONS_MISPLACED = Kind(
    "annotations-misplaced",
    "warning",
    f"Over up to {IMAGES} images, outlines of boxes or masks lie on edges of the picture far better when all of "
    f"them are moved by the same way, mirrored or turned: {BETTER:g} times as well, and {SURE:g} standard deviations "
    "from chance.",
    "Annotations lie beside the things that they mean: shifted, mirrored, turned (EXIF), or x and y exchanged.",
)
ANNOTATIONS_UNRELATED = Kind(
    "annotations-unrelated",
    "warning",
    f"Over {ENOUGH} images or more, outlines of boxes or masks lie on edges of their picture no better than those of "
    f"the image before, within {CHANCE:g} standard deviations of chance.",
    "Annotations are perhaps those of other images: another order, or names that were mixed up.",
)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well the outlines of a split lie on edges, in standard deviations of chance.

    Attributes:
        here: as annotated.
        moved: best of all shifts.
        shift: that shift, down and right, as shares of height and width.
        others: outlines of the image before, which tell how much of the fit is a habit, such as of lying in the middle.
        turned: best way of turning or mirroring them, by its words, and its fit.
        images: that were looked at.
        places: some of them.
    """

    here: float
    moved: float
    shift: tuple[float, float]
    others: float
    turned: tuple[str, float]
    images: int
    places: tuple[Place, ...]


def misplaced(subject: Subject) -> Iterator[Finding]:
    """Annotations that would fit better elsewhere."""
    if not (subject.wanted.boxes or subject.wanted.masks):
        return
    for side in subject.splits:
        fit = measure_fit(subject, side)
        if fit is None:
            continue
        needed = max(SURE, BETTER * fit.here)
        away = max(abs(fit.shift[0]), abs(fit.shift[1])) * SIDE
        if fit.turned[1] >= needed and fit.turned[1] >= fit.moved:
            what, better = fit.turned
        elif fit.moved >= needed and away > FAR:
            down, right = (round(100 * share) for share in fit.shift)
            what, better = f"moved by {right} % of the width to the right and {down} % of the height down", fit.moved
        else:
            if fit.here < fit.others + CHANCE and fit.images >= ENOUGH:
                yield Finding(
                    ANNOTATIONS_UNRELATED,
                    f"outlines of {fit.images} {_which(side)} images lie on edges as well as those of other images do "
                    f"({fit.here:.1f} and {fit.others:.1f} standard deviations of chance)",
                    "outlines on the edges of things",
                    "look at the pictures: do the annotations belong to these images?",
                    fit.places,
                )
            continue
        yield Finding(
            ANNOTATIONS_MISPLACED,
            f"outlines of {fit.images} {_which(side)} images would lie on edges "
            f"{better / max(fit.here, 1.0):.1f} times as well if they were {what} ({better:.0f} against {fit.here:.0f} "
            "standard deviations of chance)",
            "outlines on the edges of things",
            "look at the pictures; was something cut off, resized, mirrored or turned after it was annotated? With an "
            "EXIF orientation, try --data.exif ignore",
            fit.places,
        )


def _which(side: Side) -> str:
    return "training" if side == "train" else "validation"


def measure_fit(subject: Subject, side: Side) -> Fit | None:
    """The fit of a split; None where too few images say anything."""
    clock, split = subject.clock.portion(0.08), subject.splits[side]
    usable = {look.index for look in subject.looks.of(side)}
    sums, turned = np.zeros((SIDE, SIDE)), dict.fromkeys(TURNS, 0.0)
    others, before = 0.0, np.zeros((SIDE, SIDE))
    places: list[Place] = []
    for index in (index for index in spread(len(split), 4 * IMAGES) if index in usable):
        if len(places) == IMAGES or (len(places) >= FEWEST and not clock.left()):
            break
        pair = _pair(subject, side, index)
        if pair is None:
            continue
        edges, outlines = pair
        spectrum = np.fft.rfft2(edges)
        fits = _correlations(spectrum, outlines)
        deviation = fits.std()
        if not deviation:
            continue
        sums += fits / deviation
        for way, turn in TURNS.items():
            other = turn(outlines)
            turned[way] += float((edges * other).sum() / deviation)  # edges have a mean of 0
        if before.any():  # scaled to as many outlines
            others += float((edges * before).sum() / deviation * outlines.std() / before.std())
        before = outlines
        places.append(Place(side, index))
    if len(places) < FEWEST:
        return None
    scale = len(places) ** 0.5
    row, column = divmod(int(sums.argmax()), SIDE)
    shift = tuple((value - SIDE if value > SIDE // 2 else value) / SIDE for value in (row, column))
    best = max(turned, key=lambda way: turned[way])
    return Fit(
        here=float(sums[:2, :2].max(initial=sums[0, 0]) / scale),
        moved=float(sums.max() / scale),
        shift=(shift[0], shift[1]),
        others=others / scale,
        turned=(best, turned[best] / scale),
        images=len(places),
        places=first(places),
    )


def _correlations(spectrum: npt.NDArray[np.complex128], outlines: Floats) -> Floats:
    """(SIDE, SIDE) of edges with outlines, moved down and right by every number of pixels, around the border."""
    other = np.fft.rfft2(outlines - outlines.mean())
    return np.asarray(np.fft.irfft2(spectrum * np.conj(other), (SIDE, SIDE)))


def _pair(subject: Subject, side: Side, index: int) -> tuple[Floats, Floats] | None:
    """Edges and outlines of an image, both (SIDE, SIDE); None where there are none."""
    split, config = subject.splits[side], subject.config
    try:
        image = split.image(index, config.image, config.data.exif)
        size = (image.shape[0], image.shape[1])
        if subject.wanted.masks is not None and not subject.wanted.boxes:
            outlines = _mask_outlines(semantic_masks(split, index, size, overlapping=False)[:, :, 0])
        else:
            outlines = _box_outlines(split.objects(index).boxes, size)
    except UserError:  # told by other checks
        return None
    edges = _edges(image)
    if not outlines.any() or not edges.any():
        return None
    return edges, outlines


def _edges(image: Pixels) -> Floats:
    """How much the picture changes at each place; the strongest changes are cut, the mean is 0."""
    small = cv2.resize(image.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = small[:, :, None] if small.ndim == 2 else small
    small = cv2.GaussianBlur(small, (0, 0), 1.0).reshape(SIDE, SIDE, -1)
    across = cv2.Sobel(small, cv2.CV_32F, 1, 0).reshape(small.shape)
    down = cv2.Sobel(small, cv2.CV_32F, 0, 1).reshape(small.shape)
    strength = np.hypot(across, down).max(axis=2).astype(np.float64)
    strength[:2] = strength[-2:] = strength[:, :2] = strength[:, -2:] = 0
    strength = strength.clip(max=np.quantile(strength, 0.97))
    return np.asarray(strength - strength.mean())


def _box_outlines(boxes: Floats, size: tuple[int, int]) -> Floats:
    drawn = np.zeros((SIDE, SIDE), np.float64)
    scaled = np.round(boxes * (SIDE / np.array([size[1], size[0]] * 2))).astype(int).clip(-1, SIDE)
    for x1, y1, x2, y2 in scaled.tolist():
        cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), 1.0, 1)
    return _inside(drawn)


def _mask_outlines(mask: npt.NDArray[np.uint8]) -> Floats:
    small = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).astype(np.int64)
    drawn = np.zeros((SIDE, SIDE), np.float64)
    drawn[:, 1:] += small[:, 1:] != small[:, :-1]
    drawn[1:] += small[1:] != small[:-1]
    return _inside(drawn.clip(max=1))


def _inside(drawn: Floats) -> Floats:
    """Without what lies on the border of the image, where nothing can be told."""
    drawn[:2] = drawn[-2:] = 0
    drawn[:, :2] = drawn[:, -2:] = 0
    return drawn
