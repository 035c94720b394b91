import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.sampling import _mix, priorities, subsample


def split_mix_64(state: int) -> int:
    """The generator's published definition, in unbounded integers."""
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@settings(deadline=None)
@given(st.integers(0, (1 << 64) - 1))
def test_mix_is_split_mix_64(state: int) -> None:
    signed = state - (1 << 64) if state >> 63 else state
    assert int(_mix(torch.tensor([signed]))) % (1 << 64) == split_mix_64(state)


def test_mix_gives_the_known_first_number_of_seed_zero() -> None:
    assert int(_mix(torch.tensor([0]))) % (1 << 64) == 0xE220A8397B1DCDAF


def test_priorities_look_uniform_and_unrelated() -> None:
    drawn = priorities(torch.tensor([0, 1]), 1, torch.arange(20000))
    other = priorities(torch.tensor([0, 1]), 2, torch.arange(20000))
    rows = torch.cat((drawn, other)).double() / 2**62
    assert (rows >= 0).all()
    assert (rows < 1).all()
    assert (torch.histc(rows[0], 20, 0, 1) - 1000).abs().max() < 150
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 0.03
    assert torch.corrcoef(torch.stack((rows[0, 1:], rows[0, :-1])))[0, 1].abs() < 0.03


def test_sample_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    label = torch.randint(-1, 2, (3, 500))
    seeds = torch.tensor([5, 6, 7])
    together, _ = subsample(label == 1, label == 0, priorities(seeds, 1, torch.arange(500)), 64, 0.5)
    for image in range(3):
        alone = label[image : image + 1]
        priority = priorities(seeds[image : image + 1], 1, torch.arange(500))
        assert torch.equal(subsample(alone == 1, alone == 0, priority, 64, 0.5)[0][0], together[image])


@settings(deadline=None)
@given(
    positives=st.integers(0, 60),
    negatives=st.integers(0, 60),
    ignored=st.integers(0, 60),
    size=st.integers(1, 80),
    fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    seed=st.integers(0, 2**62),
)
def test_takes_as_many_as_there_are(
    positives: int, negatives: int, ignored: int, size: int, fraction: float, seed: int
) -> None:
    label = torch.tensor([[1] * positives + [0] * negatives + [-1] * ignored])
    priority = priorities(torch.tensor([seed]), 1, torch.arange(label.shape[1]))
    index, valid = subsample(label == 1, label == 0, priority, size, fraction)
    assert index.shape == valid.shape == (1, min(size, label.shape[1]))
    drawn = index[valid]
    wanted_positives = min(positives, int(size * fraction))
    assert len(drawn.unique()) == len(drawn)
    assert int((label[0, drawn] == 1).sum()) == wanted_positives
    assert int((label[0, drawn] == 0).sum()) == min(negatives, size - wanted_positives)
    assert not (label[0, drawn] == -1).any()


def test_every_element_is_drawn_about_equally_often() -> None:
    seeds = torch.arange(4000)
    negative = torch.ones(4000, 20, dtype=torch.bool)
    index, _ = subsample(~negative, negative, priorities(seeds, 1, torch.arange(20)), 5, 0.5)
    counts = index.flatten().bincount(minlength=20)
    assert (counts - 1000).abs().max() < 120
