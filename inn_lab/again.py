"""Is this job done? Why a command leaves a job as it is, continues it, or runs it again.

A job is known by what it computes (`identity.identity`). If it times the machine, the machine counts too. Its results are known
by the code that made them (`identity.code`). A command looks at the job's records, the newest first:

- A record of this code that is marked as done is left as it is. Jobs that failed, were killed or are undefined have no mark.
- A record of this code without a mark continues, from its checkpoint. So does a trial that a search has pruned; the search
  itself knows that it was, and does not ask again.
- Results of other code do not count: the job runs again beside them. With `resume=any` they count if this code has none.
- With `resume=false` only those records count that this command has made. So a retry continues.
- A record does not count if its run was deleted in MLflow.

So there are four reasons why a job that is done runs again: a key has another value (all count but `identity.NOT_SCIENCE`, and
`LATER` at the value of before), a file that it reads has changed, the code has changed, or the run was deleted. A sweep says
before its first job what it found.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from inn_lab import config, identity, machine
from inn_lab.identity import Code
from inn_lab.records import Outcome, Record, create, numbered
from inn_lab.tracking.journal import deleted


def identify(cfg: DictConfig, device: torch.device | None) -> str:
    """`identity.identity`; of a study that times the machine, the machine is a part of it."""
    if device is None or not config.is_timed(cfg):
        return identity.identity(cfg)
    return identity.identity(cfg, *machine.tags(device).values())


def look(
    outputs: str | Path, experiment: str, which: str, code: str, resume: bool | str, command: str | None = None
) -> Record | None:
    """The record that a job goes on with, or whose end is the job's; None where the job starts afresh.

    which: its identity. code: the digest of the code. command: a name that no other command has; with `resume=False` only
    the records count that it has made.
    """
    records = [record for _, record in numbered(outputs, experiment, which)] if resume or command else []
    if not resume:
        records = [record for record in records if record.about.get("command") == command]
    ours = [record for record in records if record.about.get("code") == code]
    if resume == "any" and not any(record.outcome for record in ours):
        ours = [record for record in records if record.outcome] or ours
    return ours[0] if ours else None


def find(
    outputs: str | Path, experiment: str, which: str, about: Mapping[str, Any], resume: bool | str, command: str | None = None
) -> Record:
    """The record that `look` finds, or a new one. Processes that ask at the same time get the same one."""
    found = None
    while not found:
        found = look(outputs, experiment, which, about["code"], resume, command) or create(outputs, experiment, which, about)
    return found


def record_of(
    outputs: str | Path, experiment: str, which: str, resume: bool | str, code: Code, command: str | None = None
) -> Record:
    """The record of a job or of a sweep: what `find` says, and a new one where somebody has deleted its run in MLflow."""
    about = {"id": uuid.uuid4().hex, "experiment": experiment, "commit": code.name, "code": code.digest, "command": command}
    found = find(outputs, experiment, which, about, resume, command)
    return find(outputs, experiment, which, about, resume=False) if deleted(outputs, found) else found


def of_sweep(
    outputs: str | Path, experiment: str, jobs: Sequence[tuple[str, Code]], resume: bool | str, search: str = ""
) -> tuple[Record, Code]:
    """The record of a sweep, and its code: the same jobs by the same code are the same sweep. search: of a search, what it is
    known by beside some of its jobs."""
    names = ", ".join(dict.fromkeys(code.name for _, code in jobs))
    code = Code(names, identity.digest_of((which, code.digest) for which, code in jobs))
    digest = hashlib.sha256("".join([*(which for which, _ in jobs), search]).encode()).hexdigest()[:12]
    return record_of(outputs, experiment, f"{'search' if search else 'sweep'}-{digest}", resume, code), code


def finished_by_other(outputs: str | Path, experiment: str, which: str, code: str) -> Outcome | None:
    """The newest end of a job that other code made."""
    ends = (record.outcome for _, record in numbered(outputs, experiment, which))
    return next((end for end in ends if end and end.code != code), None)


@dataclass
class There:
    """The state of a sweep's jobs before it runs.

    done: the numbers of the jobs that are finished. going: how many continue from a checkpoint. by: for each job that other
    code has finished, the name of that code.
    """

    done: set[int] = field(default_factory=set)
    going: int = 0
    by: list[str] = field(default_factory=list)

    def words(self, total: int, resume: bool | str) -> list[str]:
        """The same in lines for a person. total: how many jobs the sweep has."""
        lines = []
        if self.done:
            lines.append(f"{len(self.done)} of {total} jobs are finished already")
        if self.going:
            lines.append(f"{self.going} of {total} jobs go on from a checkpoint")
        if self.by:
            taken = resume == "any"
            what = "they are taken as they are; resume=true runs these jobs afresh" if taken else "these jobs run afresh"
            more = "; resume=any takes the results as they are" if resume is True else ""
            codes = ", ".join(dict.fromkeys(self.by))
            lines.append(f"{len(self.by)} of {total} jobs were finished by other code ({codes}): {what}{more}")
        return lines


def there(outputs: str | Path, experiment: str, jobs: Sequence[tuple[str, Code]], resume: bool | str) -> There:
    """The state of a sweep's jobs, given their identities and codes."""
    found = There()
    for number, (which, code) in enumerate(jobs):
        mine = look(outputs, experiment, which, code.digest, resume)
        outcome = mine and mine.outcome
        if outcome is not None:
            found.done.add(number)
        found.going += mine is not None and outcome is None and mine.checkpoint.exists()
        if outcome is None:
            outcome = finished_by_other(outputs, experiment, which, code.digest)
        if outcome and outcome.code != code.digest:
            found.by.append(identity.short(str(outcome.commit)))
    return found
