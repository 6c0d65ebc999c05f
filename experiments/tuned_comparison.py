"""This lab's own, on Hershey 2023, 3.3: an INN beside other recurrent networks, each at its best.

For each model and task a search of its own, of as many trials, chose learning rate, batch size, gradient clipping and what else
the model has to choose, by validation alone. Its best trial was then run with fresh seeds. Only these are compared: the best of
many trials owes a part to luck. The trials say how much a model depends on its learning rate.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import arm, each, finals, tested, trained
from experiments.verdicts import Finding, difference, mean

MODELS = {
    "inn": {"color": "black", "marker": "o"},
    "layered_inn": {"color": "tab:gray", "marker": "P"},
    "lstm": {"color": "crimson", "marker": "s"},
    "gru": {"color": "slateblue", "marker": "D"},
    "rnn": {"color": "darkorange", "marker": "^"},
    "sru": {"color": "seagreen", "marker": "v"},
}
SMALL, LARGE, BETWEEN = "100,000 weights", "1.3 million weights", 500_000
TASKS = {  # data, and about how many weights
    ("uniform_anomaly", SMALL): f"Uniform, {SMALL}",
    ("random_anomaly", SMALL): f"Random, {SMALL}",
    ("uniform_anomaly", LARGE): f"Uniform, {LARGE}",
    ("random_anomaly", LARGE): f"Random, {LARGE}",
}
CHOSEN = ("lr", "data.batch_size", "trainer.gradient_clip_val", "R", "model.hidden", "model.nonlinearity")
AXES = ("model", "data", "n_weights", "model.hidden_size", *CHOSEN)
TRIALS = 20  # of each search, at least

Task = tuple[str, str]


def sized(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with their `size`."""
    return runs.assign(size=(runs["model/weights"] > BETWEEN).map({False: SMALL, True: LARGE}))


def of(runs: pd.DataFrame, task: Task, model: str) -> pd.DataFrame:
    """The runs of a model on a task."""
    data, size = task
    return runs[(runs["data"] == data) & (runs["size"] == size) & (runs["model"] == model)]


def searched(runs: pd.DataFrame) -> pd.DataFrame:
    """The trials: they have the least seed. The best of each search has others too."""
    return runs[runs["seed"] == runs["seed"].min()]


def repeated(runs: pd.DataFrame) -> pd.DataFrame:
    """The best trials with fresh seeds."""
    return trained(runs[runs["seed"] > runs["seed"].min()])


def searches(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each search: its trials, how many were pruned, what the best one chose and had in validation, and what it has
    with fresh seeds."""
    rows = []
    for (data, size, model), part in sized(runs).groupby(["data", "size", "model"]):
        trials, fresh = searched(part), repeated(part)
        ends = finals(trained(trials))
        row = {"data": data, "size": size, "model": model, "trials": trials["run_id"].nunique()}
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
    return {"tuned_comparison": drawn(sized(runs), TASKS)}


def drawn(runs: pd.DataFrame, tasks: dict[Task, str]) -> Figure:
    there = set(zip(runs["data"], runs["size"], strict=True))
    tasks = {task: title for task, title in tasks.items() if task in there}
    figure = Figure(figsize=(4 * len(tasks) + 1.5, 8), layout="constrained")
    grid = figure.subplots(2, len(tasks), squeeze=False, sharey=True)
    labelled: dict[str, Any] = {}
    for (above, below), (task, title) in zip(grid.T, tasks.items(), strict=True):
        here = [model for model in MODELS if len(of(runs, task, model))]
        for place, model in enumerate(here):
            mine, style = of(runs, task, model), MODELS[model]
            trials = trained(searched(mine))
            rates = each(trials, "lr")
            report.dots(above, rates, finals(trials).reindex(rates.index), model, s=25, alpha=0.8, **style)
            tests = tested(repeated(mine))
            report.dots(below, [place] * len(tests), tests, model, s=36, **style)
        above.set(title=title, xscale="log", xlabel="learning rate of a trial", ylim=(0, 1))
        below.set(xticks=range(len(here)), xticklabels=here, xlabel="the best trial with fresh seeds")
        below.tick_params(axis="x", labelrotation=45)
        labelled |= dict(zip(*reversed(above.get_legend_handles_labels()), strict=True))
    grid[0, 0].set_ylabel("validation ACC_end")
    grid[1, 0].set_ylabel("test ACC_end")
    figure.legend(labelled.values(), labelled, loc="outside right upper")
    return figure


def enough(searches: pd.DataFrame, task: Task, models: Sequence[str]) -> bool:
    """Whether these models had their `TRIALS` trials."""
    here = searches[(searches["data"] == task[0]) & (searches["size"] == task[1])]
    return bool((here.set_index("model")["trials"].reindex(models).fillna(0) >= TRIALS).all())


def ahead(task: Task, one: str, other: str) -> Callable[..., Finding]:
    """Claim: a model ends above another, each at its best, by the tests with fresh seeds."""

    def measure(runs: pd.DataFrame, searches: pd.DataFrame) -> Finding:
        runs = sized(runs)
        both = [arm(repeated(of(runs, task, model))) for model in (one, other)]
        found = difference(*both, report.prior(runs, both)).within(0)
        if not enough(searches, task, [one, other]):
            return judge(f"{found.measured}, of fewer than {TRIALS} trials", None)
        return found

    return measure


def luck(runs: pd.DataFrame, searches: pd.DataFrame) -> Finding:
    """The best trial's validation is above that of the same configuration with fresh seeds, on average over searches."""
    lost = (searches["best_val"] - searches["fresh_val"]).dropna() if "best_val" in searches else pd.Series(dtype=float)
    return mean(lost).within(0)


LUCK = Claim("this lab", "The best of a search is worth less with fresh seeds", luck)

CLAIMS = [
    *(
        Claim("H 3.3", f"{title}: the INN ends above the LSTM, each at its best of {TRIALS} trials", ahead(task, "inn", "lstm"))
        for task, title in TASKS.items()
    ),
    *(
        Claim("this lab", f"{title}: the INN ends above the {model}, each at its best", ahead(task, "inn", model))
        for task, title in TASKS.items()
        for model in MODELS
        if model not in ("inn", "lstm")
    ),
    LUCK,
]
