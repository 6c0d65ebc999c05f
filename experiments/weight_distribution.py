"""Kale 2024, 3.3: a million weights, divided among the columns of the input, the hidden state and the output (Table 5, Fig. 6).

K gives neither learning rate nor epochs, and does not say what "best" means. Here it is the final validation ACC_end.
"""

import json
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim, judge
from experiments.report import ACC, each, tested, trained
from experiments.verdicts import Finding, best, difference, ratio
from inn_lab.sizing import Group, areas, column_group, fill

AXES = ("model.R_input",)
EVEN, BEST, MOST, TOTAL = 0.2, 0.25, 0.3, 1_000_268
TABLE_5 = [(0, 0.584), (0.001, 0.582), (0.01, 0.565), (0.05, 0.488), (0.1, 0.392)]  # E_i, E_h; E_o is 0.2
TABLE_5 += [(0.2, 0.2), (0.225, 0.152), (0.25, 0.104), (0.275, 0.056), (0.3, 0.008)]
SETTINGS = 5  # the least number to name the best one
TIE = 0.02  # a smaller difference is a tie


def dealt(runs: pd.DataFrame, names: Sequence[str], group: Group) -> pd.DataFrame:
    """The densities of the groups of blocks, computed from the layers if a config leaves one open: a row for each setting.

    Columns: `names`, and `weights`, the number of trainable weights.
    """
    rows = []
    for _, run in trained(runs).drop_duplicates([f"model.{name}" for name in names]).iterrows():
        given = {name: None if pd.isna(run[f"model.{name}"]) else float(run[f"model.{name}"]) for name in names}
        n_inputs = int(run["model/width"] - run["model/depth"])
        entries = areas(n_inputs, int(run["seq_len"]), json.loads(run["model.hidden"]), group)
        rows.append({**fill(given, float(run["model.R"]), entries), "weights": run["model/weights"]})
    return pd.DataFrame(rows, columns=[*names, "weights"])


def settings(runs: pd.DataFrame) -> pd.DataFrame:
    """K's Table 5 as printed, and beside it the runs' densities, computed from the layers, and numbers of weights."""
    printed = pd.DataFrame(TABLE_5, columns=["K_E_i", "K_E_h"]).assign(K_E_o=0.2, K_total=TOTAL)
    ours = dealt(runs, ("R_input", "R_hidden", "R_output"), column_group)
    return printed.merge(ours, how="outer", left_on="K_E_i", right_on="R_input")


TABLES = {"settings": settings}


def figures(runs: pd.DataFrame, settings: pd.DataFrame) -> dict[str, Figure]:
    """Validation loss and ACC_end by epoch, a curve for each input density, the even one dashed; and where all runs end."""
    runs = trained(runs)
    figure = Figure(figsize=(12, 4), layout="constrained")
    loss, accuracy, last = figure.subplots(1, 3)
    there = settings.dropna(subset="R_input")
    for row, tint in zip(there.itertuples(), report.shades(len(there)), strict=True):
        even = row.R_input == EVEN
        style = {"color": "black", "linestyle": "--", "zorder": 3} if even else {"color": tint}
        here = trained(runs, **{"model.R_input": row.R_input})
        for axes, metric in ((loss, "val/loss"), (accuracy, ACC)):
            report.curve(axes, here, metric, f"{row.R_input:g}, {row.R_hidden:.3f}", **style)
    loss.set(title="Validation loss", xlabel="epoch", ylabel="validation loss")
    accuracy.set(title="Validation accuracy", xlabel="epoch", ylabel="validation ACC_end", ylim=(0, 1))
    report.beside(accuracy, "R_input, R_hidden")
    report.side_by_side(last, each(runs, "model.R_input"), tested(runs), color="black", marker="o")
    last.set(title="Where the runs end", xlabel="R_input", ylabel="test ACC_end")
    return {"weight_distribution": figure}


def ends(runs: pd.DataFrame) -> tuple[dict[float, pd.Series], float]:
    """Where the runs end, by input density, and their prior standard deviation."""
    at = report.arms(trained(runs), "model.R_input")
    return at, report.prior(runs, at.values())


def a_quarter_is_best(runs: pd.DataFrame, settings: pd.DataFrame) -> Finding:
    at, known = ends(runs)
    text = report.ends(at, known, "R_input", 3)
    if len(at) < SETTINGS or BEST not in at:
        return judge(text, None)
    return best(at[BEST], {f"{R:g}": arm for R, arm in at.items() if R != BEST}, TIE, known).said(text)


def even_is_not_optimal(runs: pd.DataFrame, settings: pd.DataFrame) -> Finding:
    at, known = ends(runs)
    if not {EVEN, BEST} <= set(at):
        return judge(report.ends(at, known, "R_input", 3), None)
    found = difference(at[BEST], at[EVEN], known).within(0, digits=3)
    return found.said(f"K's best ends at {at[BEST].mean():.3f}, the even one at {at[EVEN].mean():.3f}: {found.measured}")


def parallel(runs: pd.DataFrame, settings: pd.DataFrame) -> Finding:
    """K 2.7.3: the products of one column can be taken at once; those of the input's column can, for all steps. So the more of
    the weights stand there, the less an epoch should take: the median of each run, with the most there and with none."""
    if "time/epoch_s" not in runs:
        return judge("no runs", None)
    seconds = report.arms(trained(runs), "model.R_input", lambda part: part.groupby("run_id")["time/epoch_s"].median())
    if not {0.0, MOST} <= set(seconds):
        return judge("no runs of both ends", None)
    text = f"{seconds[MOST].mean():.2f} s at R_input={MOST:g}, {seconds[0.0].mean():.2f} s at 0"
    found = ratio(seconds[MOST], seconds[0.0], high=1.0)
    return found.said(f"{text}: {found.measured}")


def the_total_stays(runs: pd.DataFrame, settings: pd.DataFrame) -> Finding:
    weights = settings["weights"].dropna()
    text = f"{weights.min():,.0f} to {weights.max():,.0f} in {len(weights)} settings" if len(weights) else "no runs"
    # Counted: chance has no part in it.
    return judge(text, bool((weights - TOTAL).abs().max() <= 10) if len(weights) >= SETTINGS else None)


CLAIMS = [
    Claim("K 3.3, Fig. 6", "E_i = 0.25, E_h = 0.104 is best", a_quarter_is_best, setting={"lr": None}),
    Claim(
        "K 3.3, Fig. 6",
        "An even distribution (0.2, 0.2) is not optimal: K's best is ahead of it",
        even_is_not_optimal,
        setting={"lr": None},
    ),
    Claim(
        "K 3.3",
        "Weights in fewer columns are more parallelizable: an epoch takes the less, the more of them the input has",
        parallel,
        images=False,
    ),
    Claim("K Table 5", "Every setting trains 1,000,268 weights (give or take ten)", the_total_stays, images=False),
]
