"""What a search has found: in a table, in MLflow, in pictures, and as a configuration that runs."""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from hydra_plugins.inn_lab_grid.compose import Composer
from hydra_plugins.inn_lab_search.space import Space
from inn_lab.config import title
from inn_lab.trials import optuna

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from inn_lab.records import Outcome
    from inn_lab.tracking import Run

OUTSIDE = 0.025  # of the 95 % interval, on either side


def series(outcome: "Outcome", metric: str) -> dict[int, float]:
    """What a job that has a record logged of a metric, by epoch."""
    from inn_lab import tracking
    from inn_lab.records import Record

    return tracking.series(Record(Path(str(outcome.record))), metric)


def tail(series: Mapping[int, float]) -> float:
    """The mean over the last tenth of the epochs, as `experiments.report.tails`."""
    last = max(series)
    late = [value for epoch, value in series.items() if epoch > last - (last + 1) / 10]
    return sum(late) / len(late)


def best_of(study: "Study") -> "FrozenTrial | None":
    """The best of the trials that were not pruned, the first of equal ones."""
    done = [trial for trial in complete(study) if trial.value is not None and math.isfinite(trial.value)]
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    return min(done, key=lambda trial: sign * (trial.value or 0), default=None)


def complete(study: "Study") -> list["FrozenTrial"]:
    return study.get_trials(deepcopy=False, states=(optuna().trial.TrialState.COMPLETE,))


def interval(values: Sequence[float], metric: str) -> tuple[float, float, float]:
    """A mean and its 95 % interval by Student's t, as far as the metric goes. It takes two values."""
    import numpy as np
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    reach = float(stdtrit(len(values) - 1, 1 - OUTSIDE) * np.std(values, ddof=1) / math.sqrt(len(values)))
    most = math.inf if metric.endswith("loss") else 1.0
    return mean, max(0.0, mean - reach), min(most, mean + reach)


def table(
    study: "Study", axes: list[str], space: Space, repeats: Sequence[tuple[str, float | None]], metric: str
) -> list[Sequence[str]]:
    """The rows of the table at the end: the trials, then the best one, and what it is worth with fresh seeds."""
    rows: list[Sequence[str]] = []
    for trial in study.get_trials(deepcopy=False):
        value = "" if trial.value is None or trial.state.name == "PRUNED" else f"{trial.value:.3f}"
        words = title(space.overrides(trial.params), axes)
        rows.append((str(trial.number), words, trial.user_attrs.get("state", "no result"), str(epochs(trial) or ""), value))
    if best := best_of(study):
        rows.append(("", f"the best one: trial {best.number}", "", "", f"{best.value:.3f}"))
    rows += [("", f"trial {best.number if best else ''} with {seed}", "", "", shown(value)) for seed, value in repeats]
    known = [value for _, value in repeats if value is not None]
    if len(known) > 1:
        mean, low, high = interval(known, metric)
        words = f"their mean, and its 95 % interval: {low:.3f} to {high:.3f}"
        rows.append(("", words, "", "", f"{mean:.3f}"))
    return rows


def stands(study: "Study", trials: int) -> str:
    """A line on how far a search has come."""
    best, ended = best_of(study), [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    words = f"; the best so far: {best.value:.3f}, trial {best.number}" if best else ""
    return f"{len(ended)} of {trials} trials{words}"


def shown(value: float | None) -> str:
    return "no result" if value is None else f"{value:.3f}"


def epochs(trial: "FrozenTrial") -> int:
    """How many epochs a trial was trained, as far as it counts."""
    return 0 if trial.last_step is None else trial.last_step + 1


def spent(study: "Study", most: int) -> str:
    """A line on what was trained, and what pruning has saved."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if epochs(trial)]
    trained, pruned = sum(map(epochs, trials)), [trial for trial in trials if trial.state.name == "PRUNED"]
    saved = f", {len(pruned)} pruned: {sum(most - epochs(trial) for trial in pruned)} epochs less" if pruned else ""
    return f"{len(trials)} trials, {trained} epochs{saved}"


def log(run: "Run", study: "Study") -> None:
    """The values of the trials, and the best so far, as metrics of the parent run: MLflow draws the history of the search."""
    best = math.nan
    better = max if study.direction.name == "MAXIMIZE" else min
    for trial in complete(study):
        if trial.value is not None and math.isfinite(trial.value):
            best = trial.value if math.isnan(best) else better(best, trial.value)
            run.metrics({"search/value": trial.value, "search/best": best}, trial.number)


def report(
    run: "Run", study: "Study", best: "FrozenTrial", repeats: Sequence[tuple[str, float | None]], config: str, metric: str
) -> None:
    """What the parent run has in the end: the best values as tags (a param cannot change when trials are added), a
    configuration with them, and pictures."""
    run.tag(**{"best.trial": str(best.number), "best.value": str(best.value)})
    run.tag(**{f"best.{key}": str(value) for key, value in best.params.items()})
    known = [value for _, value in repeats if value is not None]
    if len(known) > 1:
        mean, low, high = interval(known, metric)
        run.metrics({"repeats/mean": mean, "repeats/low": low, "repeats/high": high}, len(study.trials))
    run.file("best.yaml", lambda path: path.write_text(config))
    for name, draw in PICTURES.items():
        run.file(f"{name}.png", partial(picture, study, draw, metric))


PICTURES = {
    "history": "plot_optimization_history",
    "importances": "plot_param_importances",
    "slices": "plot_slice",
    "parallel_coordinates": "plot_parallel_coordinate",
}


def picture(study: "Study", draw: str, metric: str, path: Path) -> None:
    """One of Optuna's plots, through matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with pyplot.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's plots call themselves experimental
        logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # choices that are numbers are drawn as choices
        import optuna.visualization.matplotlib as plots

        getattr(plots, draw)(study, target_name=metric)
        figure = pyplot.gcf()
        figure.set_size_inches(max(7, 3 + 2.5 * len(study.best_params)), 5)
        figure.savefig(path, dpi=120, bbox_inches="tight")
        pyplot.close("all")


def as_config(words: Sequence[str], parser: OverridesParser, composer: Composer) -> str:
    """Overrides as a YAML for --config-name: the choices override those of conf/config.yaml, the values come last."""
    values, defaults = OmegaConf.create({}), list[Any](["config"])
    for override in parser.parse_overrides(list(words)):
        if composer.is_choice(override):
            defaults.append({f"override {override.key_or_group}": override.value()})
        else:
            OmegaConf.update(values, override.key_or_group, override.value())
    return OmegaConf.to_yaml(OmegaConf.merge({"defaults": [*defaults, "_self_"]}, values))
