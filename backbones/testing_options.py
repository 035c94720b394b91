"""What the options of a backbone's factory promise, as far as it takes them.

Each check yields a line for each promise that is broken.
"""

from collections.abc import Iterator

from torch import nn

from backbones.contract import Backbone
from backbones.testing_probe import Probe, changed, different, snapshot, strides
from backbones.testing_promises import gradients, shapes


def in_channels(probe: Probe, net: Backbone) -> Iterator[str]:
    """Images of other than 3 channels."""
    if not probe.takes("in_channels"):
        return
    for channels in (1, 5):
        other = probe.build(in_channels=channels)
        if other.in_channels != channels:
            yield f"built with in_channels={channels}, its in_channels says {other.in_channels}"
        probe.evaluate(other)
    yield from probe.refuses(in_channels=0)


def norms(probe: Probe, net: Backbone) -> Iterator[str]:
    """The norms that it offers; those that do not depend on the batch stay as they are."""
    if not probe.takes("norm"):
        return
    for norm in ("bn", "frozen_bn", "sync_bn", "gn"):
        other = probe.offered(norm=norm)
        if other is None:
            continue
        before = snapshot(other)
        probe.evaluate(other)
        if norm in ("frozen_bn", "gn"):
            probe.step(other)
            for name in changed(other, before):
                yield f"norm={norm!r}: {name} changes in training; it must not depend on the batch"
    yield from probe.refuses(norm="no such norm")


def frozen_stages(probe: Probe, net: Backbone) -> Iterator[str]:
    """The stages that `stage_of` numbers below that, and no others, do not train."""
    if not probe.takes("frozen_stages"):
        return
    stage = {name: net.stage_of(name) for name, parameter in net.named_parameters() if parameter.requires_grad}
    counts = sorted({number + 1 for number in stage.values()})  # a network may have nothing at some of them
    for count in sorted({counts[len(counts) > 1], counts[-1]}):
        option = f"frozen_stages={count}"
        other = probe.build(frozen_stages=count)
        learning = [name for name in stage if stage[name] < count and other.get_parameter(name).requires_grad]
        resting = [name for name in stage if stage[name] >= count and not other.get_parameter(name).requires_grad]
        for name in learning[:1]:
            yield f"{option}: {name} still trains; freeze all parameters that stage_of numbers below {count}"
        for name in resting[:1]:
            yield f"{option}: {name} does not train, but stage_of gives {stage[name]}; freeze those below {count} only"
        before = snapshot(other)
        frozen = _frozen_modules(other)
        levels = probe.step(other)
        for name in changed(other, before):
            if name.rpartition(".")[0] in frozen:
                yield f"{option}: {name} changes in training; keep frozen norms in eval mode in train()"
        if count == counts[-1]:
            for name in (name for name, level in levels.items() if level.requires_grad):
                yield f"{option}: {name} still requires a gradient; freeze all that lies before it"
    yield from probe.refuses(frozen_stages=-1)
    yield from probe.refuses(frozen_stages=counts[-1] + 1)


def output_stride(probe: Probe, net: Backbone) -> Iterator[str]:
    """The strides that it offers are those of the levels."""
    if not probe.takes("output_stride"):
        return
    for stride in (8, 16, 32):
        other = probe.offered(output_stride=stride)
        if other is None:
            continue
        if max(strides(other)) != stride:
            yield f"built with output_stride={stride}, its features say {strides(other)}"
        for problem in shapes(probe, other):
            yield f"output_stride={stride}: {problem}"
    yield from probe.refuses(output_stride=7)


def zero_init_last(probe: Probe, net: Backbone) -> Iterator[str]:
    """All that trains still gets a gradient."""
    other = probe.offered(zero_init_last=True) if probe.takes("zero_init_last") else None
    for problem in () if other is None else gradients(probe, other):
        yield f"zero_init_last: {problem}"


def activation_checkpointing(probe: Probe, net: Backbone) -> Iterator[str]:
    """It changes nothing but what is kept in memory."""
    other = probe.offered(activation_checkpointing=True) if probe.takes("activation_checkpointing") else None
    if other is None:
        return
    other.load_state_dict(net.state_dict())
    for name in different(probe.step(net), probe.step(other), 1e-5):
        yield f"activation_checkpointing changes {name}"
    one, two = ({name: p.grad for name, p in each.named_parameters() if p.grad is not None} for each in (net, other))
    for name in different(one, two, 1e-4):
        yield f"activation_checkpointing changes the gradient of {name}"
    for name in changed(other, snapshot(net)):
        yield f"activation_checkpointing changes {name}; statistics must not count the recomputed pass"


def _frozen_modules(net: nn.Module) -> set[str]:
    """Names of the modules that have parameters, none of which trains."""
    own = {name: list(module.parameters(recurse=False)) for name, module in net.named_modules()}
    return {name for name, parameters in own.items() if parameters and not any(p.requires_grad for p in parameters)}
