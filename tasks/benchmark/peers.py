"""What people would use otherwise: the other libraries' models in the loops that their users write."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from tasks.benchmark.accelerator import device


@dataclass(frozen=True, slots=True)
class Switches:
    """What a user can turn on without changing the library.

    Attributes:
        bf16: autocast to bfloat16.
        channels_last: model and images in that memory format.
    """

    bf16: bool = False
    channels_last: bool = False


def training_step(
    model: nn.Module, loss: Callable[[nn.Module], Tensor], optimizer: torch.optim.Optimizer, switches: Switches
) -> Callable[[], None]:
    """A step of the plain loop, as a call.

    Args:
        model: to train.
        loss: of the model on the batch.
        optimizer: of the model's weights.
        switches: turned on.
    """

    def step() -> None:
        model.train()
        with torch.autocast(device().type, torch.bfloat16, enabled=switches.bf16):
            value = loss(model)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()

    return step


@torch.no_grad()
def first_loss(model: nn.Module, loss: Callable[[nn.Module], Tensor], switches: Switches) -> float:
    """The loss of a step, without taking it."""
    model.train()
    with torch.autocast(device().type, torch.bfloat16, enabled=switches.bf16):
        return float(loss(model))


def prediction(model: nn.Module, images: object, switches: Switches) -> Callable[[], object]:
    """A batch of predictions, as a call."""

    def predict() -> object:
        model.eval()
        with torch.inference_mode(), torch.autocast(device().type, torch.bfloat16, enabled=switches.bf16):
            return model(images)

    return predict


class CifarResNet20(nn.Module):
    """ResNet-20 for CIFAR put together from torchvision's blocks, with projections, as scripts have it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.fc = nn.Linear(64, classes)

    @staticmethod
    def _stage(inward: int, width: int, stride: int) -> nn.Sequential:
        fitted = nn.Sequential(nn.Conv2d(inward, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        first = BasicBlock(inward, width, stride, fitted if stride > 1 else None)
        return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(2)))

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(images)))
        y: Tensor = self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))
        return y
