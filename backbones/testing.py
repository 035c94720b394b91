"""The backbone contract as a test that anyone can run on a network of their own.

    def test_my_net() -> None:
        check_backbone(MyNet)

Everything is checked on the CPU with small random images, the options only as far as the factory takes them.
"""

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from backbones.contract import Backbone, FeatureSpec
from backbones.errors import UserError

Factory = Callable[..., Backbone]


def check_backbone(factory: Factory, *, graphs: bool = False) -> None:
    """Check that what `factory` builds keeps the promises of `Backbone`, and so works under every head and the runner.

    Args:
        factory: a backbone class or a function that returns one, callable without arguments.
        graphs: also check that `torch.compile` and `torch.export` take it whole; slow.

    Raises:
        AssertionError: one line for each promise that is broken, and how to mend it.
    """
    net = _build(factory)
    problems = list(_declaration(net))
    if not problems:  # without a sound declaration, the rest would only repeat that
        checks: list[Callable[[Factory, Backbone], Iterator[str]]] = [
            _shapes, _gradients, _evaluation, _channels_last, _bfloat16, _state_dict, _in_channels, _norms,
            _frozen_stages, _output_stride, _zero_init_last, _activation_checkpointing,
        ]  # fmt: skip
        for check in [*checks, _graphs] if graphs else checks:
            try:
                problems += check(factory, copy.deepcopy(net))
            except Exception as error:
                reason = (str(error).strip() or "no message").splitlines()[0]
                problems.append(f"{check.__name__[1:]}: raises {type(error).__name__}: {reason}")
    if problems:
        raise AssertionError("\n".join([f"{type(net).__name__} breaks the backbone contract:", *problems]))


def _declaration(net: object) -> Iterator[str]:
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
    elif list(_strides(net)) != sorted(_strides(net)):
        yield f"features has the strides {list(_strides(net))}; list the levels finest first"


def _shapes(factory: Factory, net: Backbone) -> Iterator[str]:
    for height, width in ((64, 32), (49, 33)):
        levels = net(_images(net, height, width))
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


def _gradients(factory: Factory, net: Backbone) -> Iterator[str]:
    _step(net)
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            yield f"{name} trains but gets no gradient; use it in forward, do not detach it, or set requires_grad=False"
        elif parameter.grad is not None and not parameter.grad.isfinite().all():
            yield f"{name} gets a gradient that is not finite"


def _evaluation(factory: Factory, net: Backbone) -> Iterator[str]:
    images = _images(net)
    before = _snapshot(net)
    both = _evaluate(net, images)
    for name in _different(both, _evaluate(net, images), 0):
        yield f"{name} differs between two passes over one batch in eval mode; switch off what is random there"
    for name in _different({name: level[:1] for name, level in both.items()}, _evaluate(net, images[:1]), 1e-3):
        yield f"{name} of an image depends on the other images of the batch in eval mode"
    for name in _changed(net, before):
        yield f"{name} changes in eval mode; update buffers only when self.training"


def _channels_last(factory: Factory, net: Backbone) -> Iterator[str]:
    images = _images(net)
    expected = _evaluate(net, images)
    net = net.to(memory_format=torch.channels_last)
    for name in _different(expected, _evaluate(net, images.contiguous(memory_format=torch.channels_last)), 1e-3):
        yield f"{name} differs for channels-last images; use reshape instead of view, and no strides"


def _bfloat16(factory: Factory, net: Backbone) -> Iterator[str]:
    images = _images(net)
    expected = _evaluate(net, images)
    with torch.autocast("cpu", torch.bfloat16):
        levels = _evaluate(net, images)
    for name, level in levels.items():
        # bf16 has 8 bits of mantissa; deep networks gather more of its error than an elementwise bound would allow.
        likeness = torch.cosine_similarity(level.float().flatten(), expected[name].float().flatten(), dim=0)
        if not likeness > 0.95:
            yield f"{name} under bf16 autocast has little to do with float32's (cosine {likeness:.2f})"


def _state_dict(factory: Factory, net: Backbone) -> Iterator[str]:
    _step(net)
    other = _build(factory, seed=1)
    other.load_state_dict(net.state_dict())
    for name in _different(_evaluate(net, _images(net)), _evaluate(other, _images(net)), 0):
        yield f"{name} differs after load_state_dict(state_dict()); register all state as parameters or buffers"


def _in_channels(factory: Factory, net: Backbone) -> Iterator[str]:
    if not _takes(factory, "in_channels"):
        return
    for channels in (1, 5):
        other = _build(factory, in_channels=channels)
        if other.in_channels != channels:
            yield f"built with in_channels={channels}, its in_channels says {other.in_channels}"
        _evaluate(other, _images(other))
    yield from _refuses(factory, in_channels=0)


def _norms(factory: Factory, net: Backbone) -> Iterator[str]:
    if not _takes(factory, "norm"):
        return
    for norm in ("bn", "frozen_bn", "sync_bn", "gn"):
        other = _offered(factory, norm=norm)
        if other is None:
            continue
        before = _snapshot(other)
        _evaluate(other, _images(other))
        if norm in ("frozen_bn", "gn"):
            _step(other)
            for name in _changed(other, before):
                yield f"norm={norm!r}: {name} changes in training; it must not depend on the batch"
    yield from _refuses(factory, norm="no such norm")


def _frozen_stages(factory: Factory, net: Backbone) -> Iterator[str]:
    if not _takes(factory, "frozen_stages"):
        return
    trained = []
    for stages in (0, 2, 5):
        other = _build(factory, frozen_stages=stages)
        trained.append(sum(parameter.numel() for parameter in other.parameters() if parameter.requires_grad))
        if stages == 0:
            continue
        before = _snapshot(other)
        frozen = _frozen_modules(other)
        levels = _step(other)
        for name in _changed(other, before):
            if name.rpartition(".")[0] in frozen:
                yield f"frozen_stages={stages}: {name} changes in training; keep frozen norms in eval mode in train()"
        for name, level in levels.items():
            number = re.fullmatch(r"c(\d)", name)
            if number and int(number[1]) <= stages and level.requires_grad:
                yield f"frozen_stages={stages}: {name} still requires a gradient; freeze all that lies before it"
    if not trained[0] > trained[1] > trained[2]:
        yield f"frozen_stages 0, 2 and 5 leave {trained} numbers to train; more stages must freeze more"
    yield from _refuses(factory, frozen_stages=-1)


def _output_stride(factory: Factory, net: Backbone) -> Iterator[str]:
    if not _takes(factory, "output_stride"):
        return
    for stride in (8, 16, 32):
        other = _offered(factory, output_stride=stride)
        if other is None:
            continue
        if max(_strides(other)) != stride:
            yield f"built with output_stride={stride}, its features say {list(_strides(other))}"
        for problem in _shapes(factory, other):
            yield f"output_stride={stride}: {problem}"
    yield from _refuses(factory, output_stride=7)


def _zero_init_last(factory: Factory, net: Backbone) -> Iterator[str]:
    if not _takes(factory, "zero_init_last"):
        return
    for problem in _gradients(factory, _build(factory, zero_init_last=True)):
        yield f"zero_init_last: {problem}"


def _activation_checkpointing(factory: Factory, net: Backbone) -> Iterator[str]:
    if not _takes(factory, "activation_checkpointing"):
        return
    other = _build(factory, activation_checkpointing=True)
    other.load_state_dict(net.state_dict())
    for name in _different(_step(net), _step(other), 1e-5):
        yield f"activation_checkpointing changes {name}"
    gradients = [{name: p.grad for name, p in each.named_parameters() if p.grad is not None} for each in (net, other)]
    for name in _different(gradients[0], gradients[1], 1e-4):
        yield f"activation_checkpointing changes the gradient of {name}"
    for name in _changed(other, _snapshot(net)):
        yield f"activation_checkpointing changes {name}; statistics must not count the recomputed pass"


def _graphs(factory: Factory, net: Backbone) -> Iterator[str]:
    images = _images(net)
    expected = _evaluate(net, images)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for name in _different(expected, compiled(images), 1e-3):
            yield f"torch.compile changes {name}"
        for name in _different(expected, torch.export.export(net, (images,)).module()(images), 1e-3):
            yield f"torch.export changes {name}"
    torch.autograd.backward([level.mean() for level in compiled(images).values()])  # training mode takes other paths


def _build(factory: Factory, seed: int = 0, **options: Any) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory(**options)


def _offered(factory: Factory, **options: Any) -> Backbone | None:
    """The network with these options, or None where the factory says that it does not offer them."""
    try:
        return _build(factory, **options)
    except UserError:
        return None


def _takes(factory: Factory, option: str) -> bool:
    return option in inspect.signature(factory).parameters


def _refuses(factory: Factory, **options: Any) -> Iterator[str]:
    (option, value) = next(iter(options.items()))
    try:
        factory(**options)
    except UserError:
        return
    except Exception as error:
        yield f"{option}={value!r} raises {type(error).__name__}; raise backbones.UserError with the values it takes"
    else:
        yield f"{option}={value!r} is accepted; raise backbones.UserError with the values it takes"


def _strides(net: Backbone) -> list[int]:
    return [spec.stride for spec in net.features.values()]


def _images(net: Backbone, height: int = 64, width: int = 32) -> Tensor:
    """Two random images, the same ones each time."""
    return torch.randn(2, net.in_channels, height, width, generator=torch.Generator().manual_seed(0))


def _evaluate(net: Backbone, images: Tensor) -> dict[str, Tensor]:
    net.eval()
    with torch.no_grad():
        levels: dict[str, Tensor] = net(images)
    return levels


def _step(net: Backbone) -> dict[str, Tensor]:
    """One forward and backward pass in training mode."""
    net.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        levels: dict[str, Tensor] = net(_images(net))
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros(())
    for level in levels.values():
        loss = loss + (level * torch.randn(level.shape, generator=generator)).mean()
    if loss.requires_grad:
        torch.autograd.backward(loss)
    return levels


def _different(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float) -> list[str]:
    """Names whose tensors differ by more than `tolerance` times the largest value."""
    return [
        name
        for name in one
        if name not in two or not (one[name] - two[name]).abs().max() <= tolerance * one[name].abs().max()
    ]


def _snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


def _changed(net: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """Names of the buffers that are no longer as they were, counters apart."""
    after = {name: buffer for name, buffer in net.named_buffers() if buffer.is_floating_point()}
    return [name for name in after if not torch.equal(after[name], before[name])]


def _frozen_modules(net: nn.Module) -> set[str]:
    """Names of the modules that have parameters, none of which trains."""
    own = {name: list(module.parameters(recurse=False)) for name, module in net.named_modules()}
    return {name for name, parameters in own.items() if parameters and not any(p.requires_grad for p in parameters)}
