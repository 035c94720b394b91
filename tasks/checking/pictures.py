"""Pictures of what was found: images with their annotations, in pairs where they are compared."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from backbones.errors import UserError
from tasks.checking.catalogue import TITLES, kinds_of
from tasks.checking.finding import Place
from tasks.checking.outcome import Found
from tasks.checking.subject import Subject
from tasks.drawing import Image, Picture, save_picture, side_by_side
from tasks.kinds import task_of
from tasks.output import writing

MARK = (230, 30, 30)  # around what is meant


def draw(found: Sequence[Found], folder: Path) -> int:
    """Draw the places of findings as `folder/CODE_1.jpg` and so on, in place of those of an earlier check.

    Returns:
        how many pictures were drawn; without any, the folder is not made.

    Raises:
        UserError: they cannot be written.
    """
    with writing(folder):
        for kind in (kind for module in TITLES for kind in kinds_of(module)):
            for old in folder.glob(f"{kind.code}_[0-9]*.jpg"):
                old.unlink()
        numbers: Counter[str] = Counter()
        for each in found:
            code = each.finding.kind.code
            for sheet in _sheets(each):
                numbers[code] += 1
                folder.mkdir(parents=True, exist_ok=True)
                save_picture(folder / f"{code}_{numbers[code]}.jpg", sheet)
    return numbers.total()


def _sheets(each: Found) -> Iterator[Image]:
    if each.subject is None:
        return
    pictures = [(place, _picture(each.subject, place)) for place in each.finding.places]
    if not each.finding.pairs:
        yield from (picture.pixels for _, picture in pictures if picture is not None)
        return
    for (one, left), (other, right) in zip(pictures[::2], pictures[1::2], strict=False):
        if left is not None and right is not None:
            height, width = left.pixels.shape[:2]
            fitted = Picture(cv2.resize(right.pixels, (width, height)).astype("uint8"), right.zoom)
            titles = (_title(each.subject, one), _title(each.subject, other))
            yield side_by_side(left, fitted, titles)


def _title(subject: Subject, place: Place) -> str:
    side = "training" if place.side == "train" else "validation"
    return f"{side}: {Path(subject.name(place)).name} {place.about}".rstrip()


def _picture(subject: Subject, place: Place) -> Picture | None:
    """An image with its annotations and what is meant in it; None if it cannot be read."""
    split, config = subject.splits[place.side], subject.config
    try:
        picture = Picture.of(split.image(place.index, config.image, config.data.exif), config.image)
        for name, head in config.heads.items():
            task_of(head).draw_truth(picture, split, place.index, subject.labels[name])
    except UserError:  # which is what the finding says
        return None
    thick = max(2, round(max(picture.pixels.shape[:2]) / 250))
    for box in place.boxes:
        left, top, right, bottom = (round(picture.zoom * value) for value in box)
        cv2.rectangle(picture.pixels, (left, top), (right, bottom), MARK, thick, cv2.LINE_AA)
    if place.about:
        picture.write(place.about, 0, picture.pixels.shape[0], MARK)
    return picture
