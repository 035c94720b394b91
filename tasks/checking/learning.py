"""The learning rate, and whether the network learns at all: a few steps of training on one batch."""

import math
from collections.abc import Iterator

from tasks.checking.finding import Finding, Kind
from tasks.checking.network import Network
from tasks.checking.probe import Course, train_on
from tasks.config import OptimizerConfig
from tasks.optim import count_steps, learning_rate_factor

STEPS = 12  # of each trial
WARMUP = 4  # of them, where the config warms up
FEWEST = 6  # steps that say something
EXPLODED = 3.0  # times the first loss
LARGE_STEP = 0.05  # of the norm of the weights of the median layer, in one step
SMALL_WAY = 5e-3  # of it, over the whole run
MARGIN = 5.0  # a rate that is too high by so little is not told from one that a longer warm-up would bear
LEARNT = 0.1  # share of the first loss that must be gone
RELIABLE = OptimizerConfig(name="adamw", lr=3e-4, weight_decay=0.0)

LR_TOO_HIGH = Kind(
    "lr-too-high",
    "warning",
    f"Within {STEPS} steps on one batch at the full rate the loss becomes {EXPLODED:g} times what it was, or no number "
    f"(and does so at a fifth of the rate, where the config warms up); or a step changes the weights of the median "
    f"layer by more than {LARGE_STEP:.0%}.",
    "Training diverges, or forgets the weights that it starts from within a few steps.",
)
LR_TOO_LOW = Kind(
    "lr-too-low",
    "warning",
    f"At the pace of {STEPS} steps on one batch, the whole schedule could change the weights of the median layer by no "
    f"more than {SMALL_WAY:.1%}.",
    "The network ends nearly as it begins.",
)
WARMUP_TOO_LONG = Kind(
    "warmup-too-long",
    "warning",
    "`schedule.warmup_steps` is as long as the whole run.",
    "The learning rate never reaches its value.",
)
LEARNS_NOTHING = Kind(
    "learns-nothing",
    "warning",
    f"A batch cannot be learnt: neither the config's optimizer nor {RELIABLE.name} at {RELIABLE.lr:g} takes "
    f"{LEARNT:.0%} off its loss in {STEPS} to {2 * STEPS} steps.",
    "Inputs and targets do not belong together, or gradients do not reach what matters.",
)


def rate(network: Network) -> Iterator[Finding]:
    """The learning rate, tried on one batch; and whether that batch can be learnt."""
    if network.batch is None or network.start.problem:
        return
    optimizer, schedule = network.config.optimizer, network.config.schedule
    warmup = min(WARMUP, schedule.warmup_steps)
    clock = network.subject.clock.portion(0.2)
    course = _try(network, optimizer, STEPS, warmup, clock.left(), keep=True)
    too_high = _too_high(course)
    if too_high and warmup and course.step_size <= LARGE_STEP:
        gentle = optimizer.model_copy(update={"lr": optimizer.lr / MARGIN})
        if not _too_high(_try(network, gentle, STEPS, warmup, network.subject.clock.portion(0.15).left())):
            too_high = ""
    if too_high:
        yield Finding(
            LR_TOO_HIGH,
            f"{optimizer.name} at {optimizer.lr:g}: {too_high}",
            "a loss that falls, and steps of about a thousandth of the weights",
            f"set optimizer.lr to a tenth or a hundredth of {optimizer.lr:g}, warm up longer, or clip gradients",
        )
        return
    way = _way(network, course)
    if len(course.losses) >= FEWEST and way < SMALL_WAY:
        yield Finding(
            LR_TOO_LOW,
            f"{optimizer.name} at {optimizer.lr:g} changes the weights of the median layer by {course.step_size:.1e} "
            f"a step; over the whole schedule by {way:.2%} at most",
            "weights that change by some percent at the least",
            f"raise optimizer.lr, {optimizer.lr:g}, ten to a hundred times, or train longer",
        )
        return
    if course.fall >= LEARNT or len(course.losses) < FEWEST:
        return
    second = _try(network, RELIABLE, 2 * STEPS, 3, network.subject.clock.portion(0.3).left())
    if second.fall < LEARNT and len(second.losses) >= FEWEST:
        yield Finding(
            LEARNS_NOTHING,
            f"{optimizer.name} at {optimizer.lr:g} takes {course.fall:.1%} off the loss of {len(network.batch)} images "
            f"in {len(course.losses)} steps, {RELIABLE.name} at {RELIABLE.lr:g} {second.fall:.1%} in "
            f"{len(second.losses)}",
            "a batch that can be learnt by heart",
            "look at the other findings; at the annotations of these images: " + ", ".join(network.batch.files),
        )


def _try(
    network: Network, optimizer: OptimizerConfig, steps: int, warmup: int, seconds: float, keep: bool = False
) -> Course:
    assert network.batch is not None  # the caller has asked
    course, model = train_on(network, network.batch, optimizer, steps, warmup, seconds)
    if keep and all(map(math.isfinite, course.losses)):
        network.tried = model
    return course


def _too_high(course: Course) -> str:
    """What speaks for too high a rate; empty if nothing does."""
    worst = max(course.losses)
    if worst > EXPLODED * course.losses[0]:
        step = next(n for n, loss in enumerate(course.losses, 1) if loss > EXPLODED * course.losses[0])
        what = f"{worst:.3g}" if math.isfinite(worst) else "no number"
        return f"the loss goes from {course.losses[0]:.3g} to {what}; beyond {EXPLODED:g} times at step {step}"
    if course.step_size > LARGE_STEP:
        return f"a step changes the weights of the median layer by {course.step_size:.0%}"
    return ""


def _way(network: Network, course: Course) -> float:
    """How far the weights of the median layer can get in the whole run, as a share of their norm."""
    schedule, epoch = network.config.schedule, network.steps_per_epoch
    steps = count_steps(epoch, schedule)
    return course.step_size * sum(learning_rate_factor(step, epoch, schedule) for step in range(steps))


def warmup(network: Network) -> Iterator[Finding]:
    """A warm-up that never ends."""
    schedule = network.config.schedule
    steps = count_steps(network.steps_per_epoch, schedule)
    if schedule.warmup_steps >= steps:
        yield Finding(
            WARMUP_TOO_LONG,
            f"schedule.warmup_steps is {schedule.warmup_steps}, the run takes {steps} steps",
            "a warm-up of a small part of the run",
            f"set schedule.warmup_steps to {max(1, steps // 20)}",
        )
