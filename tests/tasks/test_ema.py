"""The moving average against torch's own."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tasks.ema import MovingAverage


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))


def test_equals_averaged_model() -> None:
    model, decay = network(), 0.7

    def average(mean: torch.Tensor, value: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        step = int(count) - 1  # AveragedModel copies at its first update, before it counts
        share = min(decay, (1 + step) / (10 + step))
        return share * mean + (1 - share) * value if value.is_floating_point() else value

    reference = AveragedModel(model, avg_fn=average, use_buffers=True)
    reference.update_parameters(model)  # the copy that ours starts as
    ours = MovingAverage(model, decay)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for step in range(40):
        model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ours.update(model, step)
        reference.update_parameters(model)
    expected = reference.module.state_dict()
    assert ours.tensors.keys() == expected.keys()
    for name, tensor in ours.tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours.tensors["0.weight"], model.state_dict()["0.weight"])
    assert ours.tensors["1.num_batches_tracked"] == 40


def test_applied_only_within() -> None:
    model = network()
    ours = MovingAverage(model, 0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for tensor in ours.tensors.values():
        tensor.add_(1)
    try:
        with ours.applied(model):
            assert all(torch.equal(tensor, ours.tensors[name]) for name, tensor in model.state_dict().items())
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
