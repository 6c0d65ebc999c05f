"""The display of a sweep while it runs."""

import heapq
import sys
import time
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Self

from inn_lab.standing import Standing, duration

if TYPE_CHECKING:
    from hydra_plugins.inn_lab_local.launcher import Task

TICK = 0.5  # seconds between two looks at the jobs
HEARTBEAT = 30  # seconds after which a file, where nothing moves, gets a word


class Board:
    """A line for each job that ends; below it where the others stand, which a terminal shows live and a file every 30 s."""

    def __init__(self, n_jobs: int, total: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self.n_jobs, self.total, self.done = n_jobs, total, 0
        self.worked: list[float] = []  # seconds of the jobs that were run here
        self.said = time.monotonic()
        console = Console(file=sys.stdout, highlight=False)
        there = sys.stdout.isatty() and not console.is_dumb_terminal
        self.live = Live(console=console, auto_refresh=False, transient=True, redirect_stderr=False) if there else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def ended(self, task: "Task", running: Collection["Task"], waiting: Collection["Task"]) -> None:
        self.done += 1
        outcome, took = task.outcome, time.monotonic() - task.started
        if outcome.state in ("finished", "diverged") and not outcome.already:
            self.worked.append(took)
        line = f"{task.title} · {outcome.words()} · {duration(took)}"
        self._say(line if self.live else f"{line} | {self.counts(running, waiting)}")

    def tick(self, running: Collection["Task"], waiting: Collection["Task"]) -> None:
        if self.live:
            from rich.text import Text

            self.live.update(Text("\n".join(self.lines(running, waiting)), overflow="fold"), refresh=True)
        elif time.monotonic() - self.said >= HEARTBEAT:
            self._say("\n".join(self.lines(running, waiting)))

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        print(text, flush=True)

    def lines(self, running: Collection["Task"], waiting: Collection["Task"]) -> list[str]:
        now = time.monotonic()

        def where(task: "Task") -> str:
            if task.waits:
                return "waits for what another job makes"
            return str(stands(task, now) or f"for {duration(now - task.started)}")

        return [self.counts(running, waiting), *(f"  {task.title} · {where(task)}" for task in running)]

    def counts(self, running: Collection["Task"], waiting: Collection["Task"]) -> str:
        seconds = self.left(running, waiting)
        left = f", {duration(seconds)} left" if seconds else ""
        return f"{self.done} of {self.total} done, {len(running)} running, {len(waiting)} waiting{left}"

    def left(self, running: Collection["Task"], waiting: Collection["Task"]) -> float | None:
        """The seconds until the last job ends.

        A job that runs says how long it takes yet; one that does not, or waits, takes as long as those that were run here did
        on average, or as those that run will. None where nothing is known, or none is left.
        """
        waits, runs = ([task for task in tasks if not task.quick] for tasks in (waiting, running))
        now = time.monotonic()
        told = [left_of(task, now) for task in runs]
        known = self.worked or [now - task.started + left for task, left in zip(runs, told, strict=True) if left is not None]
        if not known or not waits + runs:
            return None
        each = sum(known) / len(known)
        busy = [max(0.0, each - (now - task.started)) if left is None else left for task, left in zip(runs, told, strict=True)]
        slots = busy + [0.0] * (self.n_jobs - len(busy))  # when each is free; more of them where some wait for others
        heapq.heapify(slots)
        for _ in waits:
            heapq.heapreplace(slots, slots[0] + each)
        return max(slots)


def stands(task: "Task", now: float) -> Standing | None:
    """Where a job stands, by its last word; None if it has said nothing."""
    return task.standing and task.standing.after(now - task.heard)


def left_of(task: "Task", now: float) -> float | None:
    """The seconds that a job needs yet, as it said last."""
    standing = stands(task, now)
    return standing.left if standing else None
