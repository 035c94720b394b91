"""Any network of timm's as a backbone: `timm/convnext_tiny`, `timm/swin_tiny_patch4_window7_224`, ...

timm itself is imported when the first of them is asked for.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.contract import Backbone, FeatureSpec, backbones
from backbones.errors import UserError
from backbones.recomputation import count_batches_once
from backbones.shape_trial import try_shapes
from backbones.timm_networks import converted, create, first_line, keywords, native_size, require_network, stage_numbers

DECIDED = ("in_chans", "num_classes", "global_pool", "norm")
"""Keywords of timm's that are not offered: decided by what a backbone is, or meant otherwise in a config."""
ANY_SIZE: Mapping[str, object] = {"dynamic_img_size": True, "strict_img_size": False}
"""What timm's networks of a fixed size call the option that makes them take others, and its value for that."""


@backbones.register_prefix("timm/")
@cache
def timm_factory(name: str) -> Callable[..., Backbone]:
    """The factory of a network of timm's, with the network's own keywords in its signature.

    Raises:
        UserError: timm has no network of that name, or none with feature maps.
    """
    require_network(name)
    _, *own, _ = inspect.signature(TimmBackbone).parameters.values()
    ours = {*DECIDED, *(parameter.name for parameter in own)}
    others = [parameter for option, parameter in keywords(name).items() if option not in ours]
    factory: Callable[..., Backbone] = partial(TimmBackbone, name)
    factory.__signature__ = inspect.Signature([*own, *others])  # type: ignore[attr-defined]
    return factory


class TimmBackbone(Backbone):
    """A network of timm's, as `timm.create_model(name, features_only=True)` gives it, in `net`.

    A level's name is that of its stride, c4 for 16; of several feature maps of one stride it is the deepest. Where a
    network rounds sizes down, or takes multiples of some number only, images are padded with zeros at the right and at
    the bottom and the levels cut to what the contract says. A network of a fixed size (a vision transformer) takes any
    size where timm has an option for that.

    Stages, which `frozen_stages` and layer-wise learning rates count, are the levels': stage 0 is all that c1 is
    computed from, stage 1 what c2 needs beyond that. A network with a single level, such as a vision transformer, has
    those of timm: its stem, and each of its blocks.

    Args:
        name: as timm has it, with or without the tag of its weights.
        in_channels: channels of the images.
        output_stride: stride of the last level; None is the network's own. Below that, convolutional networks trade
            strides for dilation; others are refused.
        frozen_stages: how many stages do not train, their norms kept in eval mode.
        activation_checkpointing: recompute activations in the backward pass, in the parts that timm divides the
            network into.
        options: any other keyword of the network, such as `drop_path_rate` or `img_size`.

    Attributes:
        multiple: images are padded to multiples of this.
        size: height and width in pixels of the only images it takes; None where it takes others too.

    Raises:
        UserError: timm cannot build this, or the network does not give the levels that it promises.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        output_stride: int | None = None,
        frozen_stages: int = 0,
        activation_checkpointing: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.name, self.in_channels = name, in_channels
        if in_channels < 1:
            raise UserError(f"timm/{name}: in_channels is {in_channels}; images have at least 1 channel")
        free = {option: value for option, value in ANY_SIZE.items() if option in keywords(name)}
        self._options = {"in_chans": in_channels, **free, **options}
        self.net = create(name, features_only=True, **self._options)
        strides = self._strides()
        if output_stride not in (None, strides[-1]):
            self._dilate(output_stride)
        info: Any = self.net.feature_info
        specs = [FeatureSpec(*pair) for pair in zip(info.channels(), self._strides(), strict=True)]
        # By their strides in the undilated network.
        self._index = {f"c{round(math.log2(stride))}": index for index, stride in enumerate(strides)}
        self.features = {level: specs[index] for level, index in self._index.items()}
        self._channels_last = str(getattr(self.net, "output_fmt", "")).endswith("NHWC")

        native = options.get("img_size") or native_size(name)
        behind = self._find_sizes((native, native) if isinstance(native, int) else (native[0], native[1]))
        self._stages = self._number_stages(behind)
        self._freeze(frozen_stages, set().union(*behind.values()))
        if activation_checkpointing:
            self._recompute_activations()
        self.train()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) float -> the levels of `features`.

        Raises:
            UserError: the network takes another size only.
        """
        height, width = images.shape[-2:]
        self.require_size(height, width)
        bottom, right = -height % self.multiple, -width % self.multiple
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        maps = self.net(images)
        levels = {}
        for level, spec in self.features.items():
            x = maps[self._index[level]]
            x = x.permute(0, 3, 1, 2) if self._channels_last else x
            levels[level] = x[..., : -(-height // spec.stride), : -(-width // spec.stride)]
        return levels

    def train(self, mode: bool = True) -> "TimmBackbone":
        """As `nn.Module.train`, but what does not train stays in eval mode."""
        super().train(mode)
        for module in self.net.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    @property
    def divisor(self) -> int:
        return math.gcd(*self.size) if self.size else super().divisor

    def require_size(self, height: int, width: int) -> None:
        if self.size is not None and self.size != (height, width):
            height_to_set, width_to_set = self.size
            another = ", or --backbone.options.img_size to another" if "img_size" in keywords(self.name) else ""
            raise UserError(
                f"backbone timm/{self.name} takes images of {height_to_set} x {width_to_set} pixels only, not of "
                f"{height} x {width}; set --data.size {height_to_set} {width_to_set}{another}"
            )

    def stage_of(self, parameter: str) -> int:
        return self._stages[parameter]

    def adapt_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        own = self.state_dict().keys()
        if any(name in own for name in weights):  # they come from here
            return weights
        with torch.device("meta"):
            whole = create(self.name, **self._options)
        return converted(weights, whole, own)

    def _strides(self) -> list[int]:
        info: Any = self.net.feature_info
        return list(info.reduction())

    def _dilate(self, output_stride: int | None) -> None:
        """Trade the network's last strides for dilation."""
        natural, told = self._strides()[-1], f"timm/{self.name}: output_stride is {output_stride}; "
        if "output_stride" not in keywords(self.name):
            raise UserError(f"{told}timm does not dilate this network: leave it out, its own is {natural}")
        try:
            self.net = create(self.name, features_only=True, output_stride=output_stride, **self._options)
        except UserError as error:
            raise UserError(f"{told}its own is {natural}: {error}") from error
        if self._strides()[-1] != output_stride:
            raise UserError(f"{told}timm makes {self._strides()[-1]} of that, its own is {natural}: leave it out")

    def _find_sizes(self, native: tuple[int, int]) -> dict[str, frozenset[str]]:
        """Find out by trial what sizes the network takes, for timm does not tell; sets `multiple` and `size`.

        Returns:
            names of the parameters that each level is computed from.
        """
        self.multiple = 1
        self.size: tuple[int, int] | None = None
        step = math.lcm(*(spec.stride for spec in self.features.values()))
        # One that halves into odd and even numbers; multiples of the stride; of the windows that the network looks at.
        sizes = {1: (2 * step + 1, 4 * step - step // 3), step: (2 * step, 3 * step)}
        if native[0] == native[1] and native[0] % step == 0:
            sizes[native[0]] = 2 * native[0], 3 * native[0]
        for multiple, size in sizes.items():
            behind, _ = self._try(*size)
            if behind is not None:
                self.multiple = multiple
                return behind
        self.size = native
        behind, reason = self._try(*native)
        if behind is None:
            raise UserError(f"timm/{self.name} cannot be a backbone: {reason}; choose another network")
        return behind

    def _try(self, height: int, width: int) -> tuple[dict[str, frozenset[str]] | None, str]:
        """What each level is computed from; None, and the reason, if images of this size do not give the levels."""
        try:
            maps = try_shapes(self.net, (2, self.in_channels, height, width))
        except Exception as error:  # an assertion, a shape that does not fit, ...
            return None, f"{height} x {width} pixels fail ({first_line(error)})"
        behind = {}
        for level, spec in self.features.items():
            one = maps[self._index[level]]
            expected = (2, spec.channels, -(-height // spec.stride), -(-width // spec.stride))
            shape = (one.shape[0], one.shape[3], *one.shape[1:3]) if self._channels_last else one.shape
            if shape != expected:
                return None, f"its {level} of {height} x {width} pixels has the shape {shape}, not {expected}"
            behind[level] = frozenset(f"net.{name}" for name in one.parameters)
        return behind, ""

    def _number_stages(self, behind: Mapping[str, frozenset[str]]) -> dict[str, int]:
        inner: Any = getattr(self.net, "model", None)
        if len(behind) == 1 and hasattr(inner, "group_matcher"):
            return {f"net.model.{name}": stage for name, stage in stage_numbers(inner).items()}
        depths = {level: max(int(level[1:]) - 1, 0) for level in behind}
        return {
            name: min(
                (depths[level] for level, needed in behind.items() if name in needed), default=max(depths.values())
            )
            for name, _ in self.named_parameters()
        }

    def _freeze(self, stages: int, needed: set[str]) -> None:
        counts = {self._stages[name] + 1 for name in needed}
        if stages and not min(counts) <= stages <= max(counts):
            raise UserError(
                f"timm/{self.name}: frozen_stages is {stages}; give 0 (none), or {min(counts)} to {max(counts)} (all)"
            )
        for name, parameter in self.named_parameters():
            # Some networks compute more than their feature maps; what these do not need gets no gradient.
            if name not in needed or self._stages[name] < stages:
                parameter.requires_grad_(False)

    def _recompute_activations(self) -> None:
        inner: Any = getattr(self.net, "model", self.net)
        try:
            inner.set_grad_checkpointing(True)
        except (AttributeError, AssertionError):
            raise UserError(
                f"timm/{self.name}: activation_checkpointing is on, but timm cannot do that here; leave it out"
            ) from None
        count_batches_once(self.net)
