"""Ctrl-C and SIGTERM end a run in the same way."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

ending = False  # whether the end has begun: a further SIGTERM must not interrupt the last checkpoint
_held: list[int] | None = None  # the signals that wait inside `held`; None outside


class Interrupted(BaseException):
    """A signal asked this process to stop. Not a KeyboardInterrupt, which Lightning swallows and turns into exit code 1."""

    def __init__(self, signum: int, _frame: object = None) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


def listen() -> None:
    """From here on SIGINT and SIGTERM raise Interrupted in the main thread; SIGTERM only once, because SLURM sends several."""
    global ending
    ending = False

    def stop(signum: int, frame: object) -> None:
        global ending
        if _held is not None:
            _held.append(signum)
            return
        if signum == signal.SIGTERM:
            if ending:
                return
            if _preempted():
                signal.raise_signal(signal.SIGUSR2)  # submitit's handler: it queues the job again, and exits
                return
        ending = True
        raise Interrupted(signum, frame)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)


@contextmanager
def held() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM wait. An interrupted database transaction would keep its lock, and nobody else could write."""
    global _held
    before, _held = _held, [] if _held is None else _held
    try:
        yield
    finally:
        waiting, _held = _held, before
        if before is None and waiting:
            signal.raise_signal(waiting[0])


def _preempted() -> bool:
    """Whether this is a job of submitit on SLURM which SLURM still counts as running.

    Then SIGTERM begins the grace time of a preemption, and a job that simply ended would not be queued again. A job that is
    cancelled, requeued or out of time is COMPLETING by now, and SLURM handles it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_TASK_ID" in os.environ:  # one task has the whole array's id as its own: squeue would list all of them
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or job is None:
        return False
    ask = ["squeue", "--noheader", "--job", job, "--format=%T"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=10).stdout.strip() == "RUNNING"
    except (OSError, subprocess.SubprocessError):
        return False
