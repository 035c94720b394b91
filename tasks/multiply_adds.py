"""Arithmetic, counted."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(run: Callable[[], object]) -> int:
    """Multiply-adds of convolutions and matrix products in a call, backward passes in it included."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2
