"""Stored pixels become network input, on the model's device."""

import torch
from torch import Tensor, nn

from tasks.image_spec import ImageSpec


class Normalisation(nn.Module):
    """What an `ImageSpec` says about values.

    Windows are DICOM's LINEAR_EXACT function (PS3.3 C.11.2.1.3.2), `clamp((x - (centre - width / 2)) / width, 0, 1)`:
    the ends are where centre and width say. The older LINEAR (C.11.2.1.2) shifts them by half a stored step, to
    centre - 0.5 and width - 1, which has a meaning only for whole numbers and depends on the rescaling.

    Args:
        image: channels, range or windows, mean and std.
    """

    mean: Tensor
    std: Tensor
    window_low: Tensor
    window_width: Tensor

    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        mean, std = torch.tensor(image.mean).view(-1, 1, 1), torch.tensor(image.std).view(-1, 1, 1)
        self.windowed = image.windows is not None
        if image.windows is None:
            # One multiply and one add: ((x - low) / (white - low) - mean) / std, folded into the two constants.
            scale = image.white - image.black
            mean, std = mean * scale + image.black, std * scale
        low = torch.tensor([centre - width / 2 for centre, width in image.windows or ()]).view(-1, 1, 1)
        width = torch.tensor([width for _, width in image.windows or ()]).view(-1, 1, 1)
        # The constants belong to the ImageSpec, which travels with the checkpoint; they are not weights.
        for name, value in {"mean": mean, "std": std, "window_low": low, "window_width": width}.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, stored channels, H, W) stored values to (B, C, H, W) float32, a new tensor."""
        if self.windowed:
            # (B, 1, H, W) with one or several windows; a channel each.
            images = ((images - self.window_low) / self.window_width).clamp_(0, 1)
        return (images - self.mean) / self.std
