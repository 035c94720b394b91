"""Six segmentation heads: the decoders of segmentation-models-pytorch on the levels that a backbone gives."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from backbones.contract import FeatureSpec
from backbones.errors import UserError
from heads.contract import register_head, require_levels
from heads.option_checks import require
from heads.segmentation import Decoder, SegmentationHead

ALL_LEVELS = ("c1", "c2", "c3", "c4", "c5")
GROUPS = 32  # of the semantic FPN's group norms
REDUCTION = 16  # of the channels inside a squeeze-and-excitation block


@register_head("unet")
class UNet(SegmentationHead):
    """U-Net on a backbone (Ronneberger et al., arXiv:1505.04597): five steps up, each joined by the level it reaches.

    Takes any strides. The further options are those of `SegmentationHead`.

    Args:
        features: of the backbone; needs c1 to c5.
        num_classes: K, without background.
        decoder_channels: of the five steps, coarsest first.
        attention: `scse` weighs channels and pixels in every step (Roy et al., arXiv:1808.08127).
        interpolation: how a step enlarges its input, `nearest` or `bilinear`.
        options: of `SegmentationHead`.
    """

    name = "unet"

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        attention: Literal["scse"] | None = None,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        **options: Any,
    ) -> None:
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        require_levels(self.name, features, ALL_LEVELS)
        _require_steps(self.name, features, decoder_channels, attention)
        module = UnetDecoder(
            [0, *(features[level].channels for level in ALL_LEVELS)],
            decoder_channels,
            attention_type=attention,
            interpolation_mode=interpolation,
        )
        super().__init__(features, num_classes, Decoder(module, ALL_LEVELS, 1, decoder_channels[-1], 3, 1), **options)


@register_head("unetplusplus")
class UNetPlusPlus(SegmentationHead):
    """UNet++ (Zhou et al., arXiv:1807.10165): a U-Net whose skip connections are dense pyramids of convolutions.

    Args:
        features: of the backbone; needs c1 to c5 at strides 2, 4, 8, 16, 32.
        num_classes: K, without background.
        decoder_channels: of the five steps, coarsest first.
        attention: `scse` weighs channels and pixels in every step (Roy et al., arXiv:1808.08127).
        interpolation: how a step enlarges its input, `nearest` or `bilinear`.
        options: of `SegmentationHead`.
    """

    name = "unetplusplus"

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        attention: Literal["scse"] | None = None,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        **options: Any,
    ) -> None:
        from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

        require_levels(self.name, features, ALL_LEVELS)
        _require_stride(self.name, features, "c1", (2,))
        _require_doubling(self.name, features, ALL_LEVELS)
        _require_steps(self.name, features, decoder_channels, attention)
        module = UnetPlusPlusDecoder(
            [0, *(features[level].channels for level in ALL_LEVELS)],
            decoder_channels,
            attention_type=attention,
            interpolation_mode=interpolation,
        )
        super().__init__(features, num_classes, Decoder(module, ALL_LEVELS, 1, decoder_channels[-1], 3, 1), **options)


@register_head("deeplabv3")
class DeepLabV3(SegmentationHead):
    """DeepLabV3 (Chen et al., arXiv:1706.05587): atrous spatial pyramid pooling on a dilated backbone.

    Args:
        features: of the backbone; needs c5 at stride 8 or 16.
        num_classes: K, without background.
        decoder_channels: of the decoder.
        atrous_rates: dilations of the pyramid's three convolutions.
        separable: make these depthwise separable.
        dropout: behind the pyramid, 0 .. 1.
        options: of `SegmentationHead`.
    """

    name = "deeplabv3"

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        decoder_channels: int = 256,
        atrous_rates: tuple[int, int, int] = (12, 24, 36),
        separable: bool = False,
        dropout: float = 0.5,
        **options: Any,
    ) -> None:
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder

        require_levels(self.name, features, ("c5",))
        stride = _require_stride(self.name, features, "c5", (8, 16))
        require(self.name, "atrous_rates", atrous_rates, len(atrous_rates) == 3, "3 numbers")
        module = DeepLabV3Decoder(features["c5"].channels, decoder_channels, atrous_rates, separable, dropout)
        super().__init__(features, num_classes, Decoder(module, ("c5",), 0, decoder_channels, 1, stride), **options)


@register_head("deeplabv3plus")
class DeepLabV3Plus(SegmentationHead):
    """DeepLabV3+ (Chen et al., arXiv:1802.02611): the pyramid of DeepLabV3, refined by a level of stride 4.

    Args:
        features: of the backbone; needs c5 at stride 8 or 16 and c2 at stride 4.
        num_classes: K, without background.
        decoder_channels: of the decoder.
        atrous_rates: dilations of the pyramid's three convolutions.
        separable: make these depthwise separable.
        dropout: behind the pyramid, 0 .. 1.
        options: of `SegmentationHead`.
    """

    name = "deeplabv3plus"

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        decoder_channels: int = 256,
        atrous_rates: tuple[int, int, int] = (12, 24, 36),
        separable: bool = True,
        dropout: float = 0.5,
        **options: Any,
    ) -> None:
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        levels = ("c2", "c5")
        require_levels(self.name, features, levels)
        _require_stride(self.name, features, "c2", (4,))
        stride: Literal[8, 16] = 8 if _require_stride(self.name, features, "c5", (8, 16)) == 8 else 16
        require(self.name, "atrous_rates", atrous_rates, len(atrous_rates) == 3, "3 numbers")
        channels = [0, 0, features["c2"].channels, features["c5"].channels]
        module = DeepLabV3PlusDecoder(channels, 5, decoder_channels, atrous_rates, stride, separable, dropout)
        super().__init__(features, num_classes, Decoder(module, levels, 2, decoder_channels, 1, 4), **options)


@register_head("segmentation_fpn")
class SegmentationFPN(SegmentationHead):
    """The semantic branch of Panoptic FPN (Kirillov et al., arXiv:1901.02446, section 3.1 and figure 3).

    Args:
        features: of the backbone; needs c2 to c5, each of twice the stride of the one before.
        num_classes: K, without background.
        pyramid_channels: of every level of the pyramid.
        segmentation_channels: of the branch, a multiple of 32 from 64 on.
        dropout: of whole channels before the logits, 0 .. 1.
        merge: `add` the levels, or `cat` their channels.
        options: of `SegmentationHead`.
    """

    name = "segmentation_fpn"

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        dropout: float = 0.2,
        merge: Literal["add", "cat"] = "add",
        **options: Any,
    ) -> None:
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

        levels = ALL_LEVELS[1:]
        require_levels(self.name, features, levels)
        _require_doubling(self.name, features, levels)
        # A group of one channel has nothing to normalise on a map of a single cell; torch refuses it.
        fits = segmentation_channels % GROUPS == 0 and segmentation_channels > GROUPS
        expected = f"a multiple of {GROUPS} from {2 * GROUPS} on"
        require(self.name, "segmentation_channels", segmentation_channels, fits, expected)
        channels = [features[level].channels for level in levels]
        module = FPNDecoder(channels, 5, pyramid_channels, segmentation_channels, dropout, merge)
        decoder = Decoder(module, levels, 0, module.out_channels, 1, features["c2"].stride)
        super().__init__(features, num_classes, decoder, **options)


@register_head("pspnet")
class PSPNet(SegmentationHead):
    """PSPNet (Zhao et al., arXiv:1612.01105): one level, joined by its means over 1, 2 x 2, 3 x 3 and 6 x 6 regions.

    The paper reads c5 of a backbone dilated to stride 8.

    Args:
        features: of the backbone; needs `level`, of a multiple of 4 channels.
        num_classes: K, without background.
        level: name of the level.
        decoder_channels: of the decoder.
        dropout: of whole channels before the logits, 0 .. 1.
        options: of `SegmentationHead`.
    """

    name = "pspnet"

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        level: str = "c5",
        decoder_channels: int = 512,
        dropout: float = 0.2,
        **options: Any,
    ) -> None:
        from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder

        require_levels(self.name, features, (level,))
        channels, stride = features[level].channels, features[level].stride
        require(self.name, "level", level, channels % 4 == 0, f"one of a multiple of 4 channels, it has {channels}")
        module = PSPDecoder([channels], out_channels=decoder_channels, dropout=dropout)
        super().__init__(features, num_classes, Decoder(module, (level,), 0, decoder_channels, 3, stride), **options)


def _require_steps(
    head: str, features: Mapping[str, FeatureSpec], decoder_channels: Sequence[int], attention: str | None
) -> None:
    """Raise `UserError` unless a U-Net's options fit the levels."""
    require(head, "decoder_channels", decoder_channels, len(decoder_channels) == len(ALL_LEVELS), "5 numbers")
    if attention:
        narrow = min(*decoder_channels, *(features[level].channels for level in ALL_LEVELS))
        expected = f"None where a level or step has fewer than {REDUCTION} channels; here one has {narrow}"
        require(head, "attention", attention, narrow >= REDUCTION, expected)


def _require_stride(head: str, features: Mapping[str, FeatureSpec], level: str, allowed: tuple[int, ...]) -> int:
    """The stride of a level, or `UserError`."""
    stride = features[level].stride
    if stride not in allowed:
        remedy = f"; set --backbone.output_stride {allowed[-1]}" if level == "c5" else ""
        expected = " or ".join(map(str, allowed))
        raise UserError(f"{head} needs {level} at stride {expected}; the backbone gives it at {stride}{remedy}")
    return stride


def _require_doubling(head: str, features: Mapping[str, FeatureSpec], levels: tuple[str, ...]) -> None:
    """Raise `UserError` unless each level has twice the stride of the one before."""
    strides = [features[level].stride for level in levels]
    expected = [strides[0] << step for step in range(len(levels))]
    if strides != expected:
        needed, given = (", ".join(map(str, values)) for values in (expected, strides))
        raise UserError(
            f"{head} needs {', '.join(levels)} at strides {needed}; the backbone gives them at {given}; "
            f"set --backbone.output_stride {expected[-1]}"
        )
