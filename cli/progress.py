"""A progress bar on stderr with rate and time left; nothing where stderr is no terminal."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Update = Callable[[float, float | None], None]
"""(Done so far, total if it is another one by now)."""


@contextlib.contextmanager
def progress_bar(what: str, total: float | None, unit: str = "bytes", *, quiet: bool = False) -> Iterator[Update]:
    """A bar while the block runs; yields what moves it. `unit`: `bytes`, or the word behind a number."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    from shmcache.config import format_size

    def amount(number: float) -> str:
        return format_size(int(number)) if unit == "bytes" else f"{number:,.0f} {unit}"

    class Done(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(amount(task.completed))

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{amount(speed)}/s" if speed else "")

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), Done(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def update(done: float, new_total: float | None = None) -> None:
            bar.update(task, completed=done, **({} if new_total is None else {"total": new_total}))

        yield update
