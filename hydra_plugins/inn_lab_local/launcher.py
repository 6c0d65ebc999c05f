"""Hydra's launcher for one machine: each job in a process of its own, some at a time, and none takes another with it."""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from hydra_plugins.inn_lab_grid.contract import SweepLauncher
from hydra_plugins.inn_lab_local.board import TICK, Board
from inn_lab import signals
from inn_lab.config import title
from inn_lab.errors import ConfigError
from inn_lab.standing import Standing, Waits


@dataclass
class LocalLauncherConf:
    _target_: str = "hydra_plugins.inn_lab_local.launcher.LocalLauncher"
    n_jobs: int | None = None  # how many at a time; null: one for each GPU, on the CPU one for each core up to 8
    retries: int = 0  # how often a job that fails is started again
    fail_fast: bool = False  # whether a job that fails ends the sweep


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="inn_lab")

GRACE = 60  # seconds that stopped jobs have to write their checkpoints
WAITING = 2  # times `n_jobs` that run on the CPU where some of them wait for another: these take no processor


@dataclass
class Task:
    """One job on its way."""

    number: int
    overrides: list[str]
    title: str
    quick: bool = False  # it is undefined or finished already, and takes no time
    config: DictConfig | None = None
    attempts: int = 0
    slot: int = 0
    process: Any = None
    answers: Connection = field(init=False, repr=False, compare=False)  # from its first attempt on
    standing: Standing | None = None  # the last that it told
    waits: bool = False  # for what another job makes
    heard: float = 0.0  # when that was
    outcome: Any = None
    started: float = 0.0


class LocalLauncher(SweepLauncher, Launcher):
    """Runs `n_jobs` jobs at a time, each in a process forked from one that has the heavy imports behind it.

    The machine's cores, and its GPUs, are dealt out evenly among them. A job that dies, whatever of, is one job's loss. What a
    job prints goes to `output.log` in its folder.
    """

    def __init__(self, n_jobs: int | None, retries: int, fail_fast: bool) -> None:
        if n_jobs is not None and n_jobs < 1:
            raise ConfigError(f"hydra.launcher.n_jobs={n_jobs}: at least one job at a time; e.g. hydra.launcher.n_jobs=2")
        if retries < 0:
            raise ConfigError(f"hydra.launcher.retries={retries}: 0 or more; e.g. hydra.launcher.retries=1")
        self.n_jobs, self.retries, self.fail_fast = n_jobs, retries, fail_fast

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config  # the task is always the lab's own
        fork = "forkserver" in multiprocessing.get_all_start_methods()
        self._processes: Any = multiprocessing.get_context("forkserver" if fork else "spawn")
        if fork:  # it imports while this process looks at the jobs
            self._processes.set_forkserver_preload(["inn_lab.preload"])
            multiprocessing.forkserver.ensure_running()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        import torch

        from inn_lab import machine

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        foreseen = self.foreseen
        tasks = [
            Task(number, list(overrides), f"job {number} · {title(overrides, foreseen.axes)}", number in foreseen.quick)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        gpus, cores = torch.cuda.device_count(), machine.cores()
        n_jobs = 1 if foreseen.timed else self.n_jobs or at_a_time(foreseen.devices, gpus, cores)
        n_jobs = min(n_jobs, len(tasks))
        threads = threads_each(cores, n_jobs)
        if initial_job_idx == 0:  # a search launches some at a time, and says it once
            print(f"{n_jobs} at a time, {threads} thread{'s' * (threads > 1)} each; what they print:", flush=True)
            print(f"  {self.config.hydra.sweep.dir}/*/output.log", flush=True)
        most = n_jobs if foreseen.timed or any(device.type == "cuda" for device in foreseen.devices) else WAITING * n_jobs
        waiting, running = deque(tasks), list[Task]()
        try:
            with Board(n_jobs, len(tasks)) as board:
                board.tick(running, waiting)
                while waiting or running:
                    while waiting and len(running) < most and len(at_work := [t for t in running if not t.waits]) < n_jobs:
                        with signals.held():  # or one that was started just now would not be ended with the others
                            task = waiting.popleft()
                            task.slot = min(set(range(n_jobs)) - {t.slot for t in at_work})
                            self._start(task, threads, gpus)
                            running.append(task)
                    ready = wait([task.process.sentinel for task in running], TICK)
                    for task in running:
                        self._listen(task)
                    for task in [t for t in running if t.process.sentinel in ready]:
                        running.remove(task)
                        self._end(task)
                        lost = task.outcome.state in ("failed", "killed")
                        if lost and task.attempts <= self.retries:
                            print(f"{task.title} · {task.outcome.words()}; once more", flush=True)
                            waiting.appendleft(task)
                            continue
                        board.ended(task, running, waiting)
                        if self.fail_fast and lost:
                            raise FailedFast
                    board.tick(running, waiting)
        except FailedFast:
            self._stop(running)
        except BaseException:
            self._stop(running)
            raise
        return [returned(task) for task in tasks]

    def _compose(self, task: Task) -> DictConfig:
        config = self.foreseen.compose(task.overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = task.number
            config.hydra.sweep.dir = str(self.config.hydra.sweep.dir)  # as it is now: it holds the time
        return config

    def _start(self, task: Task, threads: int, gpus: int) -> None:
        config = task.config = task.config or self._compose(task)
        task.attempts, task.standing, task.waits, task.outcome = task.attempts + 1, None, False, None
        task.answers, theirs = self._processes.Pipe(duplex=False)
        dealt = task.slot % gpus if gpus > 1 and config.trainer.device == 0 else None
        arguments = (theirs, config, dict(os.environ), threads, dealt)
        task.process = self._processes.Process(target=work, args=arguments, name=f"job {task.number}")
        task.started = time.monotonic()
        task.process.start()
        theirs.close()

    def _listen(self, task: Task) -> None:
        """Takes what a job has told: where it stands, and at last how it ended."""
        with contextlib.suppress(EOFError, OSError), signals.held():  # half a message would spoil those after it
            while task.answers.poll():
                said = task.answers.recv()
                if isinstance(said, Standing):
                    task.standing, task.heard = said, time.monotonic()
                elif isinstance(said, Waits):
                    task.waits = said.now
                else:
                    task.outcome = said

    def _end(self, task: Task) -> None:
        """One that has not told how it ended is recorded as killed."""
        from inn_lab import tracking
        from inn_lab.records import Outcome

        self._listen(task)
        if task.outcome is None:
            task.process.join()
            code = task.process.exitcode
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            hint = " (the memory may have run out)" if code == -signal.SIGKILL else ""
            task.outcome = Outcome("killed", reason=f"its process ended with {how}{hint}")
            tracking.recover(self.config.outputs)
        task.answers.close()

    def _stop(self, running: list[Task]) -> None:
        """Ends what runs: by SIGTERM, upon which jobs write their checkpoints, and at last by force."""
        from inn_lab import tracking

        if running:
            print(f"{len(running)} running: they write their checkpoints and stop", flush=True)
        deadline = time.monotonic() + GRACE
        with contextlib.suppress(BaseException):  # a second Ctrl-C: no more patience
            with signals.held():
                for task in running:
                    task.process.terminate()
            for task in running:
                task.process.join(max(0.0, deadline - time.monotonic()))
        for task in running:
            task.process.kill()
            self._end(task)
        tracking.recover(self.config.outputs)  # they told MLflow once, and did not wait if it was busy


class FailedFast(Exception):
    """A job failed and `fail_fast` is set."""


def returned(task: Task) -> JobReturn:
    """A job's result in Hydra's form."""
    from inn_lab.records import Outcome

    result = JobReturn(overrides=task.overrides, cfg=task.config, status=JobStatus.COMPLETED)
    result.return_value = task.outcome or Outcome("waiting", reason="not started")
    return result


def at_a_time(devices: Collection[Any], gpus: int, cores: int) -> int:
    """How many jobs: one for each GPU that they take, on the CPU alone one for each core up to 8.

    Jobs on the first GPU, which is the usual one, are dealt out to all of them.
    """
    taken = {device.index for device in devices if device.type == "cuda"}
    return gpus if 0 in taken else len(taken) or min(cores, 8)


def threads_each(cores: int, n_jobs: int) -> int:
    """An even share of the cores; fewer where OMP_NUM_THREADS says so."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(max(1, cores // n_jobs), int(wanted) if wanted.isdecimal() and int(wanted) else cores)


def work(answers: Connection, config: DictConfig, environment: dict[str, str], threads: int, gpu: int | None) -> None:
    """One job, in a process of its own."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the launcher alone, which stops the jobs in order
    os.environ.clear()  # the fork server's is as old as the server
    os.environ.update(environment)
    folder = Path(config.hydra.sweep.dir) / str(config.hydra.job.num)
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout = sys.stderr = (folder / "output.log").open("a", buffering=1)
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    limit_threads(threads)
    if gpu is not None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[gpu] if seen else str(gpu)
    stop_with_the_launcher()

    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import run_job

    from inn_lab import schema, standing
    from inn_lab.__main__ import job
    from inn_lab.records import Outcome
    from inn_lab.signals import Interrupted

    standing.listener = answers.send
    schema.register()
    setup_globals()
    try:
        result = run_job(
            task_function=job,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=HydraContext(
                config_loader=None,  # type: ignore[arg-type]  # the configuration is composed already
                callbacks=Callbacks(config),
            ),
        )
        if result.status is JobStatus.FAILED:
            error = result._return_value
            answers.send(Outcome("failed", reason=f"{type(error).__name__}: {error}".splitlines()[0][:500]))
        else:
            answers.send(result.return_value)
    except Interrupted as error:
        answers.send(Outcome("killed", reason=f"stopped by {error}"))
        sys.exit(error.exit_code)


def limit_threads(threads: int) -> None:
    """For the libraries that are loaded, and for those that this process or its children load later."""
    import torch

    for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[key] = str(threads)
    torch.set_num_threads(threads)
    if "numba" in sys.modules:
        sys.modules["numba"].config.reload_config()


def stop_with_the_launcher() -> None:
    """A launcher that was killed takes its jobs with it: they end as by SIGTERM, and write their checkpoints."""
    import threading

    launcher = multiprocessing.parent_process()
    if launcher is None:
        return

    def watch() -> None:
        launcher.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
