"""Which run is meant, and where its weights are: on this disk, or among MLflow's artifacts."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from inn_lab.errors import ConfigError, near
from inn_lab.identity import NOT_SCIENCE, content
from inn_lab.records import WEIGHTS, Record, read_json
from inn_lab.schema import Config
from inn_lab.tracking.journal import deleted, entries, here
from inn_lab.tracking.store import Unanswered, asking, client, reader, why
from inn_lab.tracking.table import jobs, meaning, said

ID = re.compile("[0-9a-f]{4,32}")  # MLflow's of a run, or its beginning
ROOTS = {"model", "data", "source", "study", "scale", *(field.name for field in fields(Config) if field.type is not Any)}
SHOWN = 10  # values or runs that a message lists at most
WAYS = "finished runs keep their weights (trainer.keep_weights=true), up to 100 MB"


@dataclass
class Candidate:
    """A run that may be meant.

    values: its params and tags, as MLflow has them. run_id: MLflow's, where that has heard of it. file: its weights, where they
    are on this disk.
    """

    values: dict[str, str]
    run_id: str | None
    file: Path | None = None

    @property
    def keeps(self) -> bool:
        """Whether its weights are somewhere."""
        return self.file is not None or "weights" in self.values

    @property
    def name(self) -> str:
        """A word by which it can be asked for."""
        return self.run_id[:8] if self.run_id else str(self.file and self.file.parents[1])


def weights_of(run: str | Path, outputs: str | Path, values: Mapping[str, object]) -> Path:
    """The file with the weights of the run that is meant. What MLflow alone holds is downloaded to `outputs/trained`.

    run: the file, a record's folder, a run's id in MLflow or its beginning, or an experiment's name. values: of the
    experiment's runs, the params and tags that the run has.

    Raises ConfigError unless one run is meant, and for one that has kept no weights.
    """
    if file := _by_path(Path(os.path.expanduser(run)), values):
        return file
    found = _meant(str(run), outputs, values)
    return found.file or _download(found, outputs)


def settle(cfg: DictConfig) -> None:
    """Writes into `start_from` which file it means. Raises ConfigError as `weights_of` does."""
    if cfg.start_from is not None:
        try:
            cfg.start_from = str(weights_of(cfg.start_from, cfg.outputs, {}))
        except ConfigError as error:
            raise type(error)(f"start_from={error}") from error


def _download(run: Candidate, outputs: str | Path) -> Path:
    """A run's artifact, in a file that is named after the run. One that is there already is taken if its digest is right."""
    file, digest = Path(outputs) / "trained" / f"{run.run_id}.{WEIGHTS}", run.values["weights"]
    if str(content(str(file))).startswith(digest):
        return file
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        try:
            there = client(outputs).download_artifacts(str(run.run_id), WEIGHTS, folder)
        except Exception as error:  # MLflow's, or its artifact store's
            raise ConfigError(f"{run.name}: MLflow does not give its {WEIGHTS} ({why(error)}); {WAYS}") from error
        if not str(content(there)).startswith(digest):
            raise ConfigError(f"{run.name}: its {WEIGHTS} in MLflow is not the one that the run has kept, by its tag weights")
        return Path(there).replace(file)


def _by_path(path: Path, values: Mapping[str, object]) -> Path | None:
    """The file that a path names; None if it names neither a file nor a record."""
    is_record = os.path.isfile(path / "about.json")  # which says False of what cannot be a name
    file = Record(path).weights if is_record else path
    if os.path.isfile(file):
        if values:
            raise ConfigError(f"{path}: this is one run already; {', '.join(values)} cannot choose among several")
        return file
    if is_record:
        raise ConfigError(f"{path}: this run has kept no weights; {WAYS}")
    if path.suffix or len(path.parts) > 1:
        raise ConfigError(f"{path}: there is no such file, nor a record's folder; give a run's {WEIGHTS}, its folder or its id")
    return None


def _meant(run: str, outputs: str | Path, values: Mapping[str, object]) -> Candidate:
    """The one run that is meant by an id or by an experiment and values."""
    by_id = not values and ID.fullmatch(run) is not None
    there = _candidates(outputs, None if by_id else run, run if by_id else "")
    asked = " ".join([run, *(f"{key}={value}" for key, value in values.items())])
    if not there and by_id:
        raise ConfigError(f"{run}: in {outputs} no run's id begins so; give a whole id, a folder, or an experiment's name")
    if not there:
        known = {path.name for path in (Path(outputs) / "jobs").glob("*")}
        hint = near(run, known) if known else f"; name a file, a record, an id or an experiment; {WAYS}"
        raise ConfigError(f"{run}: in {outputs} there are no runs of it{hint}")
    for key, value in values.items():
        have = {candidate.values[key] for candidate in there if key in candidate.values}
        if not have:
            known = {name for run in there for name in run.values if (name in ROOTS if "." not in key else "." in name)}
            raise ConfigError(f"{asked}: its runs have no {key}{near(key, known)}")
        if not any(_same(text, value) for text in have):
            raise ConfigError(f"{asked}: no run has {key}={value}; there are {key}={_listed(have)}")
    fit = [run for run in there if all(key in run.values and _same(run.values[key], values[key]) for key in values)]
    kept = [candidate for candidate in fit if candidate.keeps]
    if len(kept) == 1:
        return kept[0]
    if not fit:
        raise ConfigError(f"{asked}: no run has all of these values; leave one out")
    if not kept:
        raise ConfigError(f"{asked}: {len(fit)} run{'s' * (len(fit) > 1)}, none with weights; {WAYS}")
    raise ConfigError(f"{asked}: {len(kept)} runs; {_difference(kept)}; or name one: {_listed(c.name for c in kept)}")


def _same(text: str, value: object) -> bool:
    return meaning(text) == meaning(str(value))


def _difference(runs: Sequence[Candidate]) -> str:
    """The keys that all runs have and in which they differ, with their values; of a key that others follow that one alone."""
    keys = [key for key in runs[0].values if all(key in run.values for run in runs)]
    roots = [key for key in keys if key in ROOTS]
    rest = [key for key in keys if "." in key and key.rpartition(".")[2] not in (*roots, "_target_")]
    found = {key: {run.values[key] for run in runs} for key in (*roots, *rest) if key not in NOT_SCIENCE}
    differ = [f"{key}={_listed(values)}" for key, values in found.items() if len(values) > 1]
    return f"they differ in {'; '.join(differ[:SHOWN])}" if differ else "they are one job, by other code or afresh"


def _listed(values: Iterable[str]) -> str:
    several = sorted(values)
    return ", ".join(several[:SHOWN]) + (f" and {len(several) - SHOWN} more" if len(several) > SHOWN else "")


def _candidates(outputs: str | Path, experiment: str | None, beginning: str) -> list[Candidate]:
    """The runs of an experiment (None: of all) whose id begins so: those that MLflow has, and those of the records here. A line
    says if MLflow does not answer."""
    found: dict[str, Candidate] = {}
    answers = True
    try:
        found = {run.values.get("record", str(run.run_id)): run for run in _of_mlflow(outputs, experiment, beginning)}
    except Unanswered as error:
        answers = False
        print(f"{error}; only the records in {outputs} are looked at", file=sys.stderr)
    folders = (Path(outputs) / "jobs").glob("*/*")
    for folder in sorted(path for path in folders if experiment in (None, path.parent.name)):
        record = Record(folder)
        mark, file = record.about.get("id"), record.weights if record.weights.is_file() else None
        if mark in found:
            found[mark].file = file
            continue
        told = read_json(record.delivered) or {}
        run_id = told.get("run_id") if here(told, outputs) else None
        if file and (run_id or "").startswith(beginning) and not (answers and deleted(outputs, record)):
            found[str(mark)] = Candidate(_of_journal(record), run_id, file)
    return list(found.values())


def _of_mlflow(outputs: str | Path, experiment: str | None, beginning: str) -> Iterator[Candidate]:
    there = reader(outputs)
    if there is None:
        return
    with asking(outputs):
        known = there.search_experiments() if experiment is None else [there.get_experiment_by_name(experiment)]
        for run in jobs(there, [one.experiment_id for one in known if one], beginning):
            yield Candidate(said(run), run.info.run_id)


def _of_journal(record: Record) -> dict[str, str]:
    """The params and tags that a record's journal holds."""
    values: dict[str, str] = {}
    for entry in entries(record):
        values |= entry["values"] if entry["do"] == "params" else entry.get("tags", {})
    return values
