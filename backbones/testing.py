"""The backbone contract as a test that anyone can run on a network of their own.

    def test_my_net() -> None:
        check_backbone(MyNet)

Everything is checked on the CPU with small random images, the options only as far as the factory takes them.
"""

import copy
from collections.abc import Callable, Iterator

from backbones import testing_options, testing_promises
from backbones.contract import Backbone
from backbones.testing_probe import Probe

Check = Callable[[Probe, Backbone], Iterator[str]]
CHECKS: tuple[Check, ...] = (
    testing_promises.shapes,
    testing_promises.gradients,
    testing_promises.evaluation,
    testing_promises.channels_last,
    testing_promises.bfloat16,
    testing_promises.state_dict,
    testing_options.in_channels,
    testing_options.norms,
    testing_options.frozen_stages,
    testing_options.output_stride,
    testing_options.zero_init_last,
    testing_options.activation_checkpointing,
)


def check_backbone(factory: Callable[..., Backbone], *, graphs: bool = False, size: tuple[int, int] = (64, 32)) -> None:
    """Check that what `factory` builds keeps the promises of `Backbone`, and so works under every head and the runner.

    Args:
        factory: a backbone class or a function that returns one, callable without arguments.
        graphs: also check that `torch.compile` and `torch.export` take it whole; slow.
        size: height and width of the images, for a network that does not take every size.

    Raises:
        AssertionError: one line for each promise that is broken, and how to mend it.
    """
    probe = Probe(factory, size)
    net = probe.build()
    problems = list(testing_promises.declaration(net, size))
    if not problems:  # without a sound declaration, the rest would only repeat that
        for check in (*CHECKS, testing_promises.graphs) if graphs else CHECKS:
            try:
                problems += check(probe, copy.deepcopy(net))
            except Exception as error:
                reason = (str(error).strip() or "no message").splitlines()[0]
                problems.append(f"{check.__name__}: raises {type(error).__name__}: {reason}")
    if problems:
        raise AssertionError("\n".join([f"{type(net).__name__} breaks the backbone contract:", *problems]))
