"""What a run says while it works: a live bar on a terminal, plain lines elsewhere, nothing from other processes."""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

T = TypeVar("T")


class Reporter:
    """Prints for one process of a run.

    Args:
        main: False for the processes that stay silent.

    Attributes:
        last_sign: `time.monotonic()` when something tracked went on, whether it is shown or not.
    """

    def __init__(self, main: bool = True) -> None:
        self.last_sign = time.monotonic()
        self.console = Console(quiet=not main, highlight=False)
        if not self.console.is_terminal:
            self.console.width = 120  # A file has no width of its own.

    def say(self, text: str, style: str | None = None) -> None:
        """One line, as it is."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def notice(self, title: str, lines: Iterable[str]) -> None:
        """A few lines that must not be overlooked."""
        rule = "=" * min(100, self.console.width)
        self.say("\n".join([rule, title, *lines, rule]), style="bold yellow")

    def table(self, title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """A table whose first column is text and whose others are numbers."""
        table = Table(title=title, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Pass items through, with a bar on a terminal and a line at the end elsewhere."""
        items = self._noted(items)
        if self.console.is_terminal:
            with Progress(*_columns(), console=self.console, transient=True) as progress:
                yield from progress.track(items, total=total, description=what)
        else:
            start = time.monotonic()
            yield from items
            self.say(f"{what}: {total} in {time.monotonic() - start:.1f} s")

    def _noted(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            self.last_sign = time.monotonic()
            yield item


class TrainingProgress:
    """The state of a training run, refreshed at each step on a terminal and logged as lines elsewhere.

    Args:
        reporter: where to print.
        done: steps done already.
        total: steps of the whole run.
    """

    def __init__(self, reporter: Reporter, done: int, total: int) -> None:
        self.reporter = reporter
        self.total = total
        self._first, self._start = done, time.monotonic()
        self._bar = (
            Progress(*_columns(), TextColumn("{task.fields[status]}"), console=reporter.console)
            if reporter.console.is_terminal
            else None
        )
        self._task = self._bar.add_task("train", total=total, completed=done, status="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, record: dict[str, float] | None) -> None:
        """Show that `step` steps are done; `record` is the line just logged, if one was."""
        self.reporter.last_sign = time.monotonic()
        status = ""
        if record:
            status = (
                f"loss {record['loss']:.3f}  lr {record['lr']:.2g}  {record['images_per_second']:.1f} images/s  "
                f"waiting for data {record['data_wait']:.0%}"
            )
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=step)
            if status:
                self._bar.update(self._task, status=status)
        elif record:
            pace = (time.monotonic() - self._start) / max(1, step - self._first)
            left = _clock(pace * (self.total - step))
            self.reporter.say(f"epoch {record['epoch']}  step {step}/{self.total}  {status}  {left} left")


def _columns() -> list[TextColumn | BarColumn | MofNCompleteColumn | TimeElapsedColumn | TimeRemainingColumn]:
    described = TextColumn("{task.description}")
    return [described, BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
