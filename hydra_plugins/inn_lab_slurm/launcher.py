"""SLURM: hydra-submitit-launcher's launcher, with a bound on how long it waits for jobs that are gone."""

import importlib.util
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus

from inn_lab.errors import ConfigError

if TYPE_CHECKING:
    from hydra_plugins.inn_lab_grid.sweeper import Foreseen

GONE = 60  # seconds in which a job that has left SLURM's queue must show its result (network file systems are late)
HEARTBEAT = 30  # seconds

if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit

    class SlurmLauncher(Submitit):
        """As submitit's, but:

        - a job's state comes from squeue, which every cluster has, not from sacct, which needs accounting. Without it submitit
          would wait for ever for a job that died;
        - a job that died (killed, out of memory, cancelled) is one job's loss: the others' results are waited for;
        - SLURM's SIGTERM, which follows at once when submitit requeues a job, does not cut its last checkpoint off;
        - a job that times the machine has a node for itself.
        """

        elsewhere = True  # the jobs' devices are not this machine's
        foreseen: "Foreseen"  # the sweeper's word

        def setup(self, **given: Any) -> None:
            if lacks := missing():
                raise ConfigError(f"hydra/launcher=slurm: {lacks}; leave it out, or run this where SLURM is")
            super().setup(**given)

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

            watcher, SlurmJob.watcher, SlurmJob.results = SlurmJob.watcher, squeue_watcher(), results_or_killed
            try:
                return super().launch(job_overrides, initial_job_idx)
            except FailedJobError as error:  # of sbatch, which took none of the jobs
                raise ConfigError(f"hydra/launcher=slurm: sbatch refuses the jobs: {' '.join(str(error).split())}") from error
            finally:
                SlurmJob.watcher, SlurmJob.results = watcher, results


def missing() -> str | None:
    """What this machine lacks to launch on SLURM, in words."""
    if not importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
        return "hydra-submitit-launcher is not installed"
    lacks = [command for command in ("sbatch", "srun", "squeue") if not shutil.which(command)]
    return f"there is no {' and no '.join(lacks)} here" if lacks else None


def killed(overrides: list[str], reason: str) -> JobReturn:
    """What stands for the result of a job that left none."""
    from inn_lab.records import Outcome

    print(f"{' '.join(overrides)} · killed: {reason}", flush=True)
    done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    done.return_value = Outcome("killed", reason=reason)
    return done


def squeue_watcher() -> Any:
    """A submitit watcher that asks squeue, every 15 seconds at most, for all jobs at once."""
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
            mine = self._registered - self._finished
            self.say(Counter(queued.get(job, "ended").lower() for job in mine))
            for job in mine:
                if job in queued:
                    self.missing.pop(job, None)
                    self._info_dict[job] = {"JobID": job, "State": queued[job]}
                elif time.time() - self.missing.setdefault(job, time.time()) > GONE:
                    self._info_dict[job] = {"JobID": job, "State": "GONE"}  # any word that is not a state of a live job
                    self._finished.add(job)

        def say(self, states: Counter[str]) -> None:
            """What has changed, and every half minute that nothing has."""
            if states and (states != self.said or time.monotonic() - self.said_at >= HEARTBEAT):
                self.said, self.said_at = states, time.monotonic()
                print(f"SLURM: {', '.join(f'{count} {state}' for state, count in states.items())}", flush=True)

    return SqueueWatcher(delay_s=15)
