"""An optimizer whose state was saved and restored goes on as one that was left alone."""

import pytest
import torch

from tasks.optimizer_state import optimizer_tensors, restore_optimizer


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_optimizer_goes_on_bit_for_bit(name: str) -> None:
    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3)).to(
            memory_format=torch.channels_last
        )

    def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
        more = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        return getattr(torch.optim, name)(model.parameters(), lr=0.01, **more)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        model(images).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    first = network()
    optimizer = optimizer_of(first)
    for seed in range(3):
        step(first, optimizer, seed)
    second = network()
    second.load_state_dict(first.state_dict())
    resumed = optimizer_of(second)
    saved = optimizer_tensors(optimizer, {p: n for n, p in first.named_parameters()})
    stored = {key: value.clone().contiguous() for key, value in saved.items()}
    restore_optimizer(resumed, {p: n for n, p in second.named_parameters()}, stored)
    for seed in range(3, 6):
        step(first, optimizer, seed)
        step(second, resumed, seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
