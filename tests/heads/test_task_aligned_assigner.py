"""Against the paper's rules in slow loops, one image, box and cell after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

import heads.task_aligned_assigner
from heads.contract import BoxTargets
from heads.task_aligned_assigner import Alignment, assign_aligned

POINTS = torch.stack(torch.meshgrid(torch.arange(4, 64, 8.0), torch.arange(4, 64, 8.0), indexing="xy"), -1).view(-1, 2)
ALIGNMENT = Alignment(per_box=5, score_power=1.0, iou_power=6.0)


def case(seed: int, images: int, count: int) -> tuple[Tensor, Tensor, Tensor, BoxTargets]:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    cells = len(POINTS)
    logits = 6 * rand(images, cells, 3) - 3
    away = 2 + 18 * rand(images, cells, 4)
    found = torch.cat((POINTS - away[..., :2], POINTS + away[..., 2:]), dim=-1)
    corner = 40 * rand(images, count, 2)
    boxes = torch.cat((corner, corner + 4 + 30 * rand(images, count, 2)), dim=-1)
    labels = torch.randint(-1, 3, (images, count), generator=generator)
    boxes = torch.where(labels[..., None] < 0, 0.0, boxes)
    crowd = (rand(images, count) < 0.2) & (labels >= 0)
    targets = BoxTargets(boxes, labels, crowd, torch.ones(images, dtype=torch.bool))
    return logits, found, rand(images, cells) < 0.9, targets


def slowly(
    logits: Tensor, found: Tensor, candidates: Tensor, boxes: Tensor, labels: Tensor, crowd: Tensor, how: Alignment
) -> tuple[dict[int, int], set[int], dict[int, float]]:
    """Of one image: the box of each positive cell, the negative cells, and the alignment of the positive ones."""
    claims: dict[int, list[tuple[float, int, float]]] = {}
    crowded = set()
    for number, (box, label) in enumerate(zip(boxes, labels.tolist(), strict=True)):
        ranked = []
        for cell, point in enumerate(POINTS):
            if not (box[0] < point[0] < box[2] and box[1] < point[1] < box[3]):
                continue
            if crowd[number]:
                crowded.add(cell)
            elif label >= 0 and candidates[cell]:
                iou = float(box_iou(found[cell][None], box[None]))
                product = float(logits[cell, label].sigmoid()) ** how.score_power * iou**how.iou_power
                ranked.append((product, cell, iou))
        for product, cell, iou in sorted(ranked, reverse=True)[: how.per_box]:
            if product > 0:
                claims.setdefault(cell, []).append((iou, number, product))
    given_to = {cell: max(own) for cell, own in claims.items()}
    alignment = {}
    for cell, (_, number, product) in given_to.items():
        mine = [each for each in given_to.values() if each[1] == number]
        alignment[cell] = product / max(each[2] for each in mine) * max(each[0] for each in mine)
    negative = {cell for cell in range(len(POINTS)) if candidates[cell]} - given_to.keys() - crowded
    return {cell: number for cell, (_, number, _) in given_to.items()}, negative, alignment


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 3),
    count=st.integers(1, 6),
    per_box=st.sampled_from([1, 5, 1000]),
    max_pairs=st.sampled_from([1, 400, 1 << 24]),
)
def test_equals_the_rules(seed: int, images: int, count: int, per_box: int, max_pairs: int) -> None:
    logits, found, candidates, targets = case(seed, images, count)
    how = Alignment(per_box, 1.0, 6.0)
    matches, alignment = assign_aligned(logits, found, POINTS, candidates, targets, how, max_pairs)
    for image in range(images):
        boxes, labels, crowd = targets.boxes[image], targets.labels[image], targets.crowd[image]
        wanted, negative, quality = slowly(logits[image], found[image], candidates[image], boxes, labels, crowd, how)
        positive = torch.where(matches.positive[image])[0].tolist()
        assert {cell: int(matches.index[image, cell]) for cell in positive} == wanted
        assert set(torch.where(matches.negative[image])[0].tolist()) == negative
        expected = torch.zeros(len(POINTS))
        for cell, value in quality.items():
            expected[cell] = value
        torch.testing.assert_close(alignment[image], expected, atol=1e-6, rtol=1e-4)


def test_the_best_cell_of_a_box_has_its_largest_overlap() -> None:
    logits, found, candidates, targets = case(3, 1, 4)
    matches, alignment = assign_aligned(logits, found, POINTS, candidates, targets, ALIGNMENT)
    for number in matches.index[0][matches.positive[0]].unique():
        own = matches.positive[0] & (matches.index[0] == number)
        iou = box_iou(found[0][own], targets.boxes[0, number][None])[:, 0]
        assert float(alignment[0][own].max()) == pytest.approx(float(iou.max()), rel=1e-5)
    assert not alignment[~matches.positive].any()


def test_equal_claims_go_to_the_first_box() -> None:
    """Twice the same box: as happens in data."""
    boxes = torch.tensor([[[8.0, 8, 40, 40], [8, 8, 40, 40]]])
    targets = BoxTargets(boxes, torch.tensor([[1, 1]]), torch.zeros(1, 2, dtype=torch.bool), torch.tensor([True]))
    logits, found, candidates, _ = case(0, 1, 1)
    matches, alignment = assign_aligned(logits, found, POINTS, candidates, targets, ALIGNMENT)
    assert matches.positive.sum() == 5
    assert not matches.index[matches.positive].any()
    assert (alignment[matches.positive] > 0).all()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, found, candidates, targets = case(1, 2, 6)
    largest = []
    original = heads.task_aligned_assigner.aligned_iou

    def watched(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        iou, union = original(boxes, others)
        largest.append(iou.numel())
        return iou, union

    monkeypatch.setattr(heads.task_aligned_assigner, "aligned_iou", watched)
    assign_aligned(logits, found, POINTS, candidates, targets, ALIGNMENT, max_pairs=2 * 2 * len(POINTS))
    assert largest == [2 * 2 * len(POINTS)] * 3
