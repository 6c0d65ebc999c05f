"""SLURM: hydra-submitit-launcher's launcher, with a bound on how long it waits for jobs that are gone."""

import importlib.util
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.inn_lab_grid.contract import SweepLauncher
from inn_lab.config import title
from inn_lab.errors import ConfigError

GONE = 60  # seconds in which a job that has left SLURM's queue must show its result (network file systems are late)
HEARTBEAT = 30  # seconds

if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit

    class SlurmLauncher(SweepLauncher, Submitit):
        """As submitit's, but:

        - a job's state comes from squeue, which every cluster has, not from sacct, which needs accounting. Without it submitit
          would wait for ever for a job that died;
        - a job that died (killed, out of memory, cancelled) is one job's loss: the others' results are waited for;
        - SLURM's SIGTERM, which follows at once when submitit requeues a job, does not cut its last checkpoint off;
        - a job that times the machine has a node for itself.
        """

        elsewhere = True

        def setup(self, **given: Any) -> None:
            if lacks := missing():
                raise ConfigError(f"hydra/launcher=slurm: {lacks}; leave it out, or run this where SLURM is")
            super().setup(**given)

        def __call__(self, sweep_overrides: list[str], job_dir_key: str, job_num: int, *more: Any) -> JobReturn:
            """One job, on its node."""
            from inn_lab import standing
            from inn_lab.records import write_atomically

            told = where(self.sweep, job_num)
            told.parent.mkdir(parents=True, exist_ok=True)
            standing.listener = lambda now: write_atomically(told, str(now).encode(), sync=False)
            return super().__call__(sweep_overrides, job_dir_key, job_num, *more)

        def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
            """submitit calls this in the job's main thread upon SIGUSR2, before `scontrol requeue` and sys.exit."""
            from inn_lab import signals

            signals.ending = True
            return super().checkpoint(*args, **kwargs)

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            from submitit import SlurmJob
            from submitit.core.utils import FailedJobError, UncompletedJobError

            if self.foreseen.timed:
                self.params["exclusive"] = True  # sbatch's word; one in additional_parameters takes its place

            results = SlurmJob.results
            overrides = iter(job_overrides)

            def results_or_killed(job: Any) -> list[JobReturn]:  # submitit asks the jobs in their order
                mine = list(next(overrides))
                try:
                    return results(job)
                except UncompletedJobError:
                    return [killed(mine, f"SLURM job {job.job_id} left no result; see {job.paths.stderr}")]

            words = [title(given, self.foreseen.axes) for given in job_overrides]
            self.sweep = str(self.config.hydra.sweep.dir)  # as it is now: it holds the time
            look = squeue_watcher(self.sweep, words, initial_job_idx)
            watcher, SlurmJob.watcher = SlurmJob.watcher, look
            SlurmJob.results = results_or_killed  # type: ignore[method-assign,assignment]  # submitit has no hook for it
            try:
                return super().launch(job_overrides, initial_job_idx)
            except FailedJobError as error:  # of sbatch, which took none of the jobs
                raise ConfigError(f"hydra/launcher=slurm: sbatch refuses the jobs: {' '.join(str(error).split())}") from error
            finally:
                SlurmJob.watcher = watcher
                SlurmJob.results = results  # type: ignore[method-assign]  # as above


def missing() -> str | None:
    """Says what this machine lacks to launch on SLURM; None if it lacks nothing."""
    if not importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
        return "hydra-submitit-launcher is not installed"
    lacks = [command for command in ("sbatch", "srun", "squeue") if not shutil.which(command)]
    return f"there is no {' and no '.join(lacks)} here" if lacks else None


def killed(overrides: list[str], reason: str) -> JobReturn:
    """A result for a job that left none."""
    from inn_lab.records import Outcome

    print(f"{' '.join(overrides)} · killed: {reason}", flush=True)
    done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    done.return_value = Outcome("killed", reason=reason)
    return done


def where(sweep: str, number: int) -> Path:
    """The file in which a job says where it stands."""
    return Path(sweep) / str(number) / "standing"


def squeue_watcher(sweep: str, titles: Sequence[str], first: int = 0) -> Any:
    """A submitit watcher that asks squeue, every 15 seconds at most, for all jobs at once, and says where they stand.

    first: the number of the array's first job."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    class SqueueWatcher(SlurmInfoWatcher):
        missing: dict[str, float] = {}  # since when a job is no longer in the queue
        said: Counter[str] = Counter()  # the jobs' states, and when they were
        said_at = 0.0

        def update(self) -> None:
            self._num_calls += 1
            self._last_status_check = time.time()
            command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%T"]
            try:
                lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
            except (OSError, subprocess.SubprocessError):
                return  # SLURM does not answer: nothing is known, and we ask again
            queued = dict(line.split("|") for line in lines)
            mine = sorted(self._registered - self._finished)
            self.say({job: queued.get(job, "ended").lower() for job in mine})
            for job in mine:
                if job in queued:
                    self.missing.pop(job, None)
                    self._info_dict[job] = {"JobID": job, "State": queued[job]}
                elif time.time() - self.missing.setdefault(job, time.time()) > GONE:
                    self._info_dict[job] = {"JobID": job, "State": "GONE"}  # any word that is not a state of a live job
                    self._finished.add(job)

        def say(self, states: dict[str, str]) -> None:
            """How many are in which state, when that changes and every half minute; and of those that run, where they stand."""
            counts = Counter(states.values())
            if not counts or (counts == self.said and time.monotonic() - self.said_at < HEARTBEAT):
                return
            self.said, self.said_at = counts, time.monotonic()
            print(f"SLURM: {', '.join(f'{count} {state}' for state, count in counts.items())}", flush=True)
            for job in sorted(job for job, state in states.items() if state == "running"):
                number = int(job.rpartition("_")[2]) if "_" in job else 0  # an array's ids end in the job's place in it
                with suppress(OSError):
                    told = where(sweep, first + number).read_text()
                    print(f"  job {first + number} · {titles[number]} · {told}", flush=True)

    return SqueueWatcher(delay_s=15)
