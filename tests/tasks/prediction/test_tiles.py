"""Large images by tiles: everything is found once, whole, and where it is."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones import UserError
from tasks.config import DataConfig
from tasks.data.files.image_file import Pixels
from tasks.image_spec import ImageSpec
from tasks.label_map import LabelMap
from tasks.prediction.description import HeadDescription, ModelDescription
from tasks.prediction.engine import Engine
from tasks.prediction.found import Found
from tasks.prediction.found_boxes import FoundBoxes
from tasks.prediction.tiles import TiledEngine, tile_starts


def description(kind: str = "boxes") -> ModelDescription:
    labels = LabelMap(ids=(1, 2), names=("a", "b"))
    head = HeadDescription(kind=kind, labels=labels)  # type: ignore[arg-type]
    return ModelDescription(name="x", heads={"x": head}, image=ImageSpec(), data=DataConfig(), divisor=32)


class Blobs(Engine):
    """Finds each connected bright area of an image; its grey value is its class, and its size the score."""

    def __init__(self, kind: str = "boxes") -> None:
        self.description = description(kind)
        self.seen: list[tuple[int, ...]] = []

    def predict(self, images: Sequence[Pixels]) -> list[Mapping[str, Found]]:
        import cv2

        found: list[Mapping[str, Found]] = []
        for image in images:
            self.seen.append(image.shape[:2])
            count, numbers, stats, _ = cv2.connectedComponentsWithStats((image[:, :, 0] > 0).astype(np.uint8))
            boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in stats[1:]], np.float32).reshape(-1, 4)
            labels = [int(image[:, :, 0][numbers == index].max()) - 1 for index in range(1, count)]
            # A part of an object is at times surer than the whole.
            scores = (1 - stats[1:, 4] / 1e4).astype(np.float32)
            order = np.argsort(-scores)
            found.append({"x": FoundBoxes(boxes, scores, np.array(labels, np.int64)).chosen(order)})
        return found


def test_every_object_is_found_once_and_whole() -> None:
    image = np.zeros((300, 420, 3), np.uint8)
    random = np.random.default_rng(0)
    expected = set()
    for row in range(7):
        for column in range(10):
            left, top = column * 42 + random.integers(10), row * 42 + random.integers(10)
            size, label = random.integers(5, 24), int(random.integers(1, 3))
            image[top : top + size, left : left + size] = label
            expected.add((left, top, left + size, top + size, label - 1))
    engine = Blobs()
    found = TiledEngine(engine, tile=96, overlap=0.3).predict([image])[0]["x"]
    assert isinstance(found, FoundBoxes)
    assert len(engine.seen) == 5 * 6
    assert set(engine.seen) == {(96, 96)}
    got = [(*map(int, box), int(label)) for box, label in zip(found.boxes, found.labels, strict=True)]
    assert len(got) == len(expected)
    assert set(got) == expected
    assert (np.diff(found.scores) <= 0).all()
    assert found.image_size == (300, 420)


def test_classes_are_not_merged() -> None:
    box = np.array([[0, 0, 10, 10]], np.float32)

    class Two(Blobs):
        def predict(self, images: Sequence[Pixels]) -> list[Mapping[str, Found]]:
            both = FoundBoxes(np.repeat(box, 3, 0), np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 0]))
            return [{"x": both} for _ in images]

    found = TiledEngine(Two(), tile=64).predict([np.zeros((40, 40, 3), np.uint8)])[0]["x"]
    assert isinstance(found, FoundBoxes)
    assert found.labels.tolist() == [0, 1]


@given(st.integers(1, 3000), st.integers(32, 700), st.floats(0, 0.9))
def test_tiles_cover_the_image(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    covered = 0
    for start in starts:
        assert start <= covered
        covered = min(start + tile, length)
    assert covered == length
    assert len(set(starts)) == len(starts)


def test_what_tiles_are_not_for() -> None:
    for kind, way in (("masks", "inference.window"), ("labels", "whole images")):
        with pytest.raises(UserError, match=rf"gives {kind}; use {way}"):
            TiledEngine(Blobs(kind), tile=64)
    with pytest.raises(UserError, match="tile is 8; expected at least 32"):
        TiledEngine(Blobs(), tile=8)
    with pytest.raises(UserError, match=r"overlap is 1; expected 0 to 0\.9"):
        TiledEngine(Blobs(), tile=64, overlap=1)
