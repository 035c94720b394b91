"""What to say when a step does not fit into memory: which images it was about, and how many of them do fit."""

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence

import torch

from backbones.errors import UserError
from tasks.data.sample import Batch

# Of torch's CPU allocator on Linux, macOS and Windows; CUDA and MPS raise torch.OutOfMemoryError or say so.
SIGNS = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "out of memory",
    "can't start new thread",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is about memory that there is not."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def advice(passes: Sequence[Batch], attempt: Callable[[Batch], object] | None) -> str:
    """Describe a step that did not fit, and find the largest share of its largest pass that does.

    Call it where the failed step's tensors are gone: behind the handler of its error, whose traceback holds them.

    Args:
        passes: of the step.
        attempt: forward and backward pass of a batch; None: it cannot be tried.
    """
    largest = max(passes, key=lambda batch: batch.images.numel())
    count, (height, width) = len(largest), largest.sizes.padded
    area = largest.sizes.valid.prod(1)
    order = area.argsort(descending=True, stable=True)
    most = int(order[0])
    told = (
        f"{count} image{'s' * (count > 1)} of {height} x {width} pixels (height x width) in one pass, the largest "
        f"{largest.files[most]}"
    )
    if attempt is None:
        return f"{told}; set --runner.accumulate higher or --data.batch_size lower"
    for fewer in (number for number in range(count // 2, 0, -1) if count % number == 0):
        if _fits(attempt, largest.take(order[:fewer])):
            accumulate = len(passes) * count // fewer
            return (
                f"{told}; {fewer} of them fit: set --runner.accumulate {accumulate}, which leaves the batch and the "
                f"learning rate as they are, or --data.batch_size lower"
            )
    return f"{told}; not even one fits: set --data.short_side and --data.long_side lower, or crop"


@contextlib.contextmanager
def shortage_told(resume: str) -> Iterator[None]:
    """A lack of memory within, outside of a training step, becomes a `UserError` that ends with `resume`."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"out of memory outside of a training step, as in an evaluation ({reason}); set --data.batch_size, "
            f"--data.workers or --data.short_side lower; {resume}"
        ) from None


def _fits(attempt: Callable[[Batch], object], batch: Batch) -> bool:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        attempt(batch)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return False
    return True
