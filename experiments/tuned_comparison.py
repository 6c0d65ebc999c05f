"""This lab's own, on Hershey 2023, 3.3: an INN beside other recurrent networks, each at its best.

For each model and task a search of its own, of as many trials, chose learning rate, batch size, gradient clipping and what else
the model has to choose, by validation alone. Its best trial was then run with fresh seeds. Only these are compared: the best of
many trials owes a part to luck. The trials say how much a model depends on its learning rate.
"""

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import arm, each, finals, tested, trained
from experiments.verdicts import Estimate, Finding, difference, mean

MODELS = {
    "inn": {"color": "black", "marker": "o"},
    "layered_inn": {"color": "tab:gray", "marker": "P"},
    "lstm": {"color": "crimson", "marker": "s"},
    "gru": {"color": "slateblue", "marker": "D"},
    "rnn": {"color": "darkorange", "marker": "^"},
    "sru": {"color": "seagreen", "marker": "v"},
}
TASKS = {"uniform_anomaly": "Uniform", "random_anomaly": "Random", "reber": "Reber strings"}
CHOSEN = ("lr", "data.batch_size", "trainer.gradient_clip_val", "R", "model.hidden", "model.nonlinearity")
AXES = ("model", "data", "n_weights", *CHOSEN)
TRIALS = 20  # of each search, at least


def searched(runs: pd.DataFrame) -> pd.DataFrame:
    """The trials: they have the least seed. The best of each search has others too."""
    return runs[runs["seed"] == runs["seed"].min()]


def repeated(runs: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The best trials with fresh seeds."""
    return trained(runs[runs["seed"] > runs["seed"].min()], **values)


def searches(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each search: its trials, how many were pruned, what the best one chose and had in validation, and what it has
    with fresh seeds."""
    rows = []
    for (data, model), part in runs.groupby(["data", "model"]):
        trials, fresh = searched(part), repeated(part)
        ends = finals(trained(trials))
        row = {"data": data, "model": model, "trials": trials["run_id"].nunique()}
        row["pruned"] = trials.loc[trials["state"] == "pruned", "run_id"].nunique()
        if len(ends):
            best = part[part["run_id"] == ends.idxmax()].iloc[0]
            row |= {"weights": best.get("model/weights"), **{key: best[key] for key in CHOSEN if key in best}}
            row |= {"best_val": ends.max(), "fresh_val": finals(fresh).mean(), "fresh_test": tested(fresh).mean()}
        rows.append(row | {"seeds": fresh["seed"].nunique()})
    return pd.DataFrame(rows)


TABLES = {"searches": searches}


def figures(runs: pd.DataFrame, searches: pd.DataFrame) -> dict[str, Figure]:
    """For each task: the trials by learning rate, and the tests of the best one of each model with fresh seeds."""
    tasks = [data for data in TASKS if (runs["data"] == data).any()]
    figure = Figure(figsize=(5.5 * len(tasks), 8), layout="constrained")
    grid = figure.subplots(2, len(tasks), squeeze=False, sharey=True)
    for (above, below), data in zip(grid.T, tasks, strict=True):
        here = [model for model in MODELS if ((runs["model"] == model) & (runs["data"] == data)).any()]
        for place, model in enumerate(here):
            trials = trained(searched(runs), data=data, model=model)
            style = MODELS[model]
            rates = each(trials, "lr")
            report.dots(above, rates, finals(trials).reindex(rates.index), model, s=25, alpha=0.8, **style)
            tests = tested(repeated(runs, data=data, model=model))
            report.dots(below, [place] * len(tests), tests, model, s=36, **style)
        above.set(title=TASKS[data], xscale="log", xlabel="learning rate of a trial", ylim=(0, 1))
        below.set(xticks=range(len(here)), xticklabels=here, xlabel="the best trial with fresh seeds")
    grid[0, 0].set_ylabel("validation ACC_end")
    grid[1, 0].set_ylabel("test ACC_end")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return {"tuned_comparison": figure}


def apart(runs: pd.DataFrame, data: str, other: str) -> Estimate:
    """By how much the INN's tests with fresh seeds are above another model's."""
    both = [arm(repeated(runs, data=data, model=model)) for model in ("inn", other)]
    return difference(*both, report.prior(runs, both))


def enough(searches: pd.DataFrame, data: str, models: Sequence[str]) -> bool:
    """Whether these models had their `TRIALS` trials."""
    counts = searches[searches["data"] == data].set_index("model")["trials"]
    return bool((counts.reindex(models).fillna(0) >= TRIALS).all())


def ahead(data: str, other: str) -> Callable[..., Finding]:
    """Claim: the INN ends above another model, each at its best."""

    def measure(runs: pd.DataFrame, searches: pd.DataFrame) -> Finding:
        found = apart(runs, data, other).within(0)
        if not enough(searches, data, ["inn", other]):
            return judge(f"{found.measured}, of fewer than {TRIALS} trials", None)
        return found

    return measure


def luck(runs: pd.DataFrame, searches: pd.DataFrame) -> Finding:
    """The best trial's validation is above that of the same configuration with fresh seeds, on average over searches."""
    lost = (searches["best_val"] - searches["fresh_val"]).dropna() if "best_val" in searches else pd.Series(dtype=float)
    return mean(lost).within(0)


CLAIMS = [
    *(
        Claim("H 3.3", f"{title}: the INN ends above the LSTM, each at its best of {TRIALS} trials", ahead(data, "lstm"))
        for data, title in TASKS.items()
        if data != "reber"
    ),
    *(
        Claim("this lab", f"{title}: the INN ends above the {model}, each at its best", ahead(data, model))
        for data, title in TASKS.items()
        if data != "reber"
        for model in MODELS
        if model not in ("inn", "lstm")
    ),
    Claim("this lab", "The best of a search is worth less with fresh seeds", luck),
]
