"""The convolution that residual networks are made of, and how its weights start."""

from typing import Literal, TypeAlias, get_args

from torch import nn

from backbones.errors import UserError

Init: TypeAlias = Literal["kaiming", "xavier"]


class Conv(nn.Conv2d):
    """A convolution that starts as He et al., arXiv:1502.01852, section 2.2: normal, by fan-out; a bias at zero."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def initialise(network: nn.Module, init: Init) -> None:
    """Start the convolutions of `network` anew by the method called `init`; what else it has stays.

    `kaiming` keeps what `Conv` starts with. `xavier` draws uniformly by fan-in and fan-out (Glorot and Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010, equation 16), which
    counts on units that are linear around zero: behind ReLUs without norms, signals fade from layer to layer.

    Raises:
        UserError: no such method.
    """
    if init not in get_args(Init):
        raise UserError(f"{type(network).__name__}: init is {init!r}; choose one of {', '.join(get_args(Init))}")
    if init == "xavier":
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
