"""From a model and a prediction to maps of what speaks for it.

Shapes: C channels, H W pixels of the padded batch, N subjects.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.errors import UserError
from heads.contract import Explainable, ImageSizes, Prediction
from tasks.data.sample import Batch
from tasks.explanation.arguments import Method
from tasks.explanation.class_activation import CLASS_ACTIVATION, fuse
from tasks.explanation.subject import Subject
from tasks.model import Model

STEPS = 50  # of the path of integrated gradients
PIXELS_AT_ONCE = 1 << 19  # of the altered copies of an image that go through the network together


class Explainer:
    """Explains predictions of one head, in float32; the model stays as it is.

    Args:
        model: trained.
        head: name of the head.
        method: how. `scorecam` is the one without gradients: unlike Eigen-CAM, whose map is the same for all classes
            and boxes, it asks the network what it makes of the image where a channel is active.
        levels: feature maps to look at; empty chooses: of `layercam` for boxes and masks all from stride 8 on, else
            the deepest that the head's logits depend on.

    Attributes:
        levels: those looked at; empty until the first call where it chooses.

    Raises:
        UserError: the head cannot be explained, or a level is not there, or the method takes no, or only one, level.
    """

    def __init__(self, model: Model, head: str, method: Method, levels: Sequence[str] = ()) -> None:
        module = model.heads[head]
        if not isinstance(module, Explainable):
            raise UserError(
                f"the head {head!r} ({type(module).__name__}) does not tell its class logits, so it cannot be "
                "explained; derive it from heads.Explainable too"
            )
        self.model, self.head, self.head_name, self.method = model, module, head, method
        known = model.backbone.features
        for level in levels:
            if level not in known:
                raise UserError(f"levels has {level!r}; expected levels of the backbone: {', '.join(known)}")
        if levels and method == "integrated_gradients":
            raise UserError("integrated_gradients looks at the image itself; leave --levels out, or choose a method")
        if len(levels) > 1 and method != "layercam":
            raise UserError(f"levels is {' '.join(levels)}, but only layercam fuses levels; give {method} one")
        if not levels and method == "layercam" and getattr(module, "reads", None) in ("boxes", "masks"):
            levels = [level for level, spec in known.items() if spec.stride >= 8]
        self.levels = tuple(dict.fromkeys(levels))

    def __call__(self, batch: Batch, prediction: Prediction, subjects: Sequence[Subject]) -> Tensor:
        """(N, h, w) float32 on the CPU, not below 0, in the pixels of the batch that hold its one image."""
        with _evaluating(self.model), torch.autocast(batch.images.device.type, enabled=False):
            if self.method == "integrated_gradients":
                maps = self.integrated_gradients(batch, prediction, subjects)
            elif self.method == "scorecam":
                maps = self._score_cam(batch, prediction, subjects)
            else:
                maps = self._class_activation(batch, prediction, subjects)
        return maps.relu().cpu()

    def _class_activation(self, batch: Batch, prediction: Prediction, subjects: Sequence[Subject]) -> Tensor:
        # The image asks for gradients, so that a level has those by way of the deeper levels too, also where all
        # weights are frozen.
        images = self.model.network_input(batch).requires_grad_()
        with torch.enable_grad():
            features, (logits,) = self._logits(images, batch.sizes, [prediction])
            values = [subject.value(logits) for subject in subjects]
        levels = self.levels = self._levels(values[0], features)
        maps = []
        for value in values:
            gradients = self._gradients(value, [features[level] for level in levels])
            own = []
            for level, gradient in zip(levels, gradients, strict=True):
                cells = CLASS_ACTIVATION[self.method](features[level][0].detach(), gradient[0]).relu()
                own.append(_in_image(cells[None], batch.sizes)[0])
            maps.append(fuse(own) if len(own) > 1 else own[0])
        return torch.stack(maps)

    def integrated_gradients(self, batch: Batch, prediction: Prediction, subjects: Sequence[Subject]) -> Tensor:
        """(N, h, w) signed: gradient times input, averaged on the way from the mean colour (arXiv:1703.01365).

        The pixels add up to the difference between the numbers of the image and of the mean colour (Sundararajan et
        al., proposition 1), as far as 50 points of a Gauss-Legendre sum give the integral.
        """
        image = self.model.network_input(batch)
        points, weights = (image.new_tensor(each) for each in np.polynomial.legendre.leggauss(STEPS))
        points, weights = (points + 1) / 2, weights / 2
        total = image.new_zeros(len(subjects), *image.shape[1:])
        for chosen in torch.split(torch.arange(STEPS), _at_once(image)):
            copies = (points[chosen].view(-1, 1, 1, 1) * image).detach().requires_grad_()
            with torch.enable_grad():
                _, logits = self._logits(copies, batch.sizes, [prediction] * len(chosen))
                values = [torch.stack([subject.value(one) for one in logits]).sum() for subject in subjects]
            for row, value in zip(total, values, strict=True):
                (gradient,) = self._gradients(value, [copies])
                row += (weights[chosen].view(-1, 1, 1, 1) * gradient).sum(dim=0)
        height, width = batch.sizes.valid[0].tolist()
        return (total * image).sum(dim=1)[:, :height, :width]

    @torch.no_grad()
    def _score_cam(self, batch: Batch, prediction: Prediction, subjects: Sequence[Subject]) -> Tensor:
        """Score-CAM (Wang et al., arXiv:1910.01279, algorithm 1).

        Channels are weighed by the logit of the image that is seen only where the channel is active. The logit of the
        empty image, which the paper subtracts, is the same for all of them, and the softmax over channels takes it out.
        """
        image = self.model.network_input(batch)
        with torch.enable_grad():  # for the levels that count
            features, (whole,) = self._logits(image.clone().requires_grad_(), batch.sizes, [prediction])
            (level,) = self.levels = self._levels(subjects[0].value(whole), features)
        activations = features[level][0].detach()
        # A channel that is the same everywhere marks nothing.
        spread = activations.amax(dim=(1, 2)) - activations.amin(dim=(1, 2))
        varying = torch.where(spread > 0)[0]
        scores = []
        for chosen in torch.split(varying, _at_once(image)):
            seen = F.interpolate(activations[chosen, None], image.shape[2:], mode="bilinear", align_corners=False)
            low, high = seen.amin(dim=(2, 3), keepdim=True), seen.amax(dim=(2, 3), keepdim=True)
            seen = (seen - low) / (high - low).clamp(min=1e-30)
            _, logits = self._logits(seen * image, batch.sizes, [prediction] * len(chosen))
            scores.append(torch.stack([torch.stack([subject.value(one) for subject in subjects]) for one in logits]))
        if not scores:
            return _in_image(activations.new_zeros(len(subjects), *activations.shape[1:]), batch.sizes)
        weights = torch.cat(scores).softmax(dim=0)
        return _in_image(torch.einsum("cn,chw->nhw", weights, activations[varying]).relu(), batch.sizes)

    def _logits(
        self, images: Tensor, sizes: ImageSizes, predictions: Sequence[Prediction]
    ) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        """Feature maps, and class logits an image, of copies of the one image of a batch."""
        count = len(predictions)
        copies = ImageSizes(sizes.padded, sizes.valid.expand(count, -1), sizes.original.expand(count, -1))
        features = self.model.backbone(images)
        return features, self.head.class_logits(features, copies, predictions)

    def _levels(self, value: Tensor, features: dict[str, Tensor]) -> tuple[str, ...]:
        """The levels to look at."""
        asked = self.levels or tuple(reversed(features))
        gradients = torch.autograd.grad(
            value, [features[level] for level in asked], retain_graph=True, allow_unused=True
        )
        counting = [level for level, gradient in zip(asked, gradients, strict=True) if gradient is not None]
        if not self.levels:
            return tuple(counting[:1])
        if unused := [level for level in asked if level not in counting]:
            raise UserError(
                f"levels has {unused[0]!r}, on which the logits of the head {self.head_name!r} do not depend"
            )
        return asked

    def _gradients(self, value: Tensor, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(value, of, retain_graph=True)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _in_image(cells: Tensor, sizes: ImageSizes) -> Tensor:
    """Maps (N, h, w) of cells, enlarged, in the pixels of a batch that hold its one image."""
    enlarged = F.interpolate(cells[None], sizes.padded, mode="bilinear", align_corners=False)[0]
    height, width = sizes.valid[0].tolist()
    return enlarged[:, :height, :width]


def _at_once(image: Tensor) -> int:
    return max(1, PIXELS_AT_ONCE // (image.shape[2] * image.shape[3]))
