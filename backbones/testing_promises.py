"""What every backbone promises, whatever the options. Each check yields a line for each promise that is broken."""

from collections.abc import Iterator

import torch

from backbones.contract import Backbone, FeatureSpec
from backbones.errors import UserError
from backbones.testing_probe import Probe, changed, different, snapshot, strides

ODD_SIZE = (49, 33)


def declaration(net: object, size: tuple[int, int]) -> Iterator[str]:
    """Its attributes are there and can be true."""
    if not isinstance(net, Backbone):
        yield "it is no backbones.Backbone; derive it from that class"
        return
    features, in_channels = getattr(net, "features", None), getattr(net, "in_channels", None)
    if not isinstance(in_channels, int):
        yield f"in_channels is {in_channels!r}; set it to the number of image channels"
    if not isinstance(features, dict) or not features:
        yield f"features is {features!r}; set it to {{'c2': FeatureSpec(channels, stride), ...}}, one entry a level"
    elif not all(isinstance(spec, FeatureSpec) for spec in features.values()):
        yield f"features holds {features!r}; its values must be FeatureSpec(channels, stride)"
    elif strides(net) != sorted(strides(net)):
        yield f"features has the strides {strides(net)}; list the levels finest first"
    refusal = _refusal(net, *size)
    if refusal:
        yield f"it does not take the images of this test, of {size[0]} x {size[1]} pixels; give their size ({refusal})"


def shapes(probe: Probe, net: Backbone) -> Iterator[str]:
    """The levels are those of `features`, in whatever size the images have."""
    for height, width in (probe.size, ODD_SIZE):
        if _refusal(net, height, width):
            continue
        levels = net(probe.images(net, (height, width)))
        if not isinstance(levels, dict) or list(levels) != list(net.features):
            got = list(levels) if isinstance(levels, dict) else type(levels).__name__
            yield f"forward returns {got}; it must return a dict with the levels of features, {list(net.features)}"
            return
        for name, spec in net.features.items():
            expected = (2, spec.channels, -(-height // spec.stride), -(-width // spec.stride))
            if tuple(levels[name].shape) != expected:
                yield (
                    f"{name} has the shape {tuple(levels[name].shape)} for {height} x {width} images; features says "
                    f"{spec}, so {expected}: correct features, or pad so that sizes round up"
                )


def gradients(probe: Probe, net: Backbone) -> Iterator[str]:
    """What trains gets a gradient."""
    probe.step(net)
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            yield f"{name} trains but gets no gradient; use it in forward, do not detach it, or set requires_grad=False"
        elif parameter.grad is not None and not parameter.grad.isfinite().all():
            yield f"{name} gets a gradient that is not finite"


def evaluation(probe: Probe, net: Backbone) -> Iterator[str]:
    """In eval mode, nothing is random or changes, and images do not meet."""
    images = probe.images(net)
    before = snapshot(net)
    both = probe.evaluate(net)
    for name in different(both, probe.evaluate(net), 0):
        yield f"{name} differs between two passes over one batch in eval mode; switch off what is random there"
    first = {name: level[:1] for name, level in both.items()}
    for name in different(first, probe.evaluate(net, images[:1]), 1e-3):
        yield f"{name} of an image depends on the other images of the batch in eval mode"
    for name in changed(net, before):
        yield f"{name} changes in eval mode; update buffers only when self.training"


def channels_last(probe: Probe, net: Backbone) -> Iterator[str]:
    """The order of the numbers in memory does not matter."""
    expected = probe.evaluate(net)
    net = net.to(memory_format=torch.channels_last)
    images = probe.images(net).contiguous(memory_format=torch.channels_last)
    for name in different(expected, probe.evaluate(net, images), 1e-3):
        yield f"{name} differs for channels-last images; use reshape instead of view, and no strides"


def bfloat16(probe: Probe, net: Backbone) -> Iterator[str]:
    """It computes about the same under autocast."""
    expected = probe.evaluate(net)
    with torch.autocast("cpu", torch.bfloat16):
        levels = probe.evaluate(net)
    for name, level in levels.items():
        # bf16 has 8 bits of mantissa; deep networks gather more of its error than an elementwise bound would allow.
        likeness = torch.cosine_similarity(level.float().flatten(), expected[name].float().flatten(), dim=0)
        if not likeness > 0.9:
            yield f"{name} under bf16 autocast has little to do with float32's (cosine {likeness:.2f})"


def state_dict(probe: Probe, net: Backbone) -> Iterator[str]:
    """All that it is after a step is in its state dict."""
    probe.step(net)
    other = probe.build(seed=1)
    other.load_state_dict(net.state_dict())
    for name in different(probe.evaluate(net), probe.evaluate(other), 0):
        yield f"{name} differs after load_state_dict(state_dict()); register all state as parameters or buffers"


def graphs(probe: Probe, net: Backbone) -> Iterator[str]:
    """It can be compiled and exported."""
    images = probe.images(net)
    expected = probe.evaluate(net)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for name in different(expected, compiled(images), 1e-3):
            yield f"torch.compile changes {name}"
        for name in different(expected, torch.export.export(net, (images,)).module()(images), 1e-3):
            yield f"torch.export changes {name}"
    torch.autograd.backward([level.mean() for level in compiled(images).values()])  # training mode takes other paths


def _refusal(net: Backbone, height: int, width: int) -> str:
    try:
        net.require_size(height, width)
    except UserError as error:
        return str(error)
    return ""
