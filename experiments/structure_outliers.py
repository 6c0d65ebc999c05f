"""Hershey 2023, 3.2: small networks whose components trade places, on inputs of growing difficulty (Fig. 3.5)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import report
from experiments.claims import Claim
from experiments.report import TEST, tested, trained
from experiments.structure import colour, weight_space
from experiments.verdicts import Finding, all_of, difference, mean, share

AXES = ("model.swap", "data.transforms")
TABLES = {"components": "components.csv"}
TRANSFORMS = ("none", "erase", "perspective", "both")  # from easy to hard
FAR = 0.2  # below the layered networks' mean on the same data, from which a network counts as an outlier
SHARE = "share"


def networks(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each network: its accuracy, how far it is behind, and the fraction of its weights that are effective."""
    done = trained(runs).drop_duplicates("run_id")
    done = done.assign(**{TEST: done["run_id"].map(tested(done))})
    layered = done[done["model.swap"] == 0].groupby("data.transforms")[TEST].mean()
    behind = done["data.transforms"].map(layered) - done[TEST]  # missing where nothing layered stands beside
    effective = done["model/weights_effective"] / done["model/weights"]
    return done.assign(**{"behind": behind, "outlier": behind > FAR, SHARE: effective})


def figures(runs: pd.DataFrame, components: pd.DataFrame) -> dict[str, Figure]:
    """H's figure: the weight space of the worst network, and test accuracy by transform; beside it, by effective weights."""
    each = networks(runs)
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    space, by_transform, by_share = figure.subplots(1, 3)
    worst = each.sort_values(TEST).iloc[0]
    weight_space(space, components[components["run_id"] == worst["run_id"]])
    space.set_title(
        f"the worst network: {worst[TEST]:.2f} (swap {worst['model.swap']:g}, {worst['data.transforms']})", fontsize=9
    )
    place = {name: at for at, name in enumerate(TRANSFORMS)}
    for shift, (swap, part) in enumerate(each.groupby("model.swap")):
        style = {"s": 18, "alpha": 0.7, "color": colour(swap), "marker": "os^"[shift % 3]}
        ends = part.set_index("run_id")
        spread = 0.2 * (shift - 1) + 0.06 * np.linspace(-1, 1, len(part))
        report.dots(by_transform, ends["data.transforms"].map(place) + spread, ends[TEST], f"swap {swap:g}", **style)
        report.dots(by_share, ends[SHARE], ends["behind"], f"swap {swap:g}", **style)
    by_transform.set_xticks(range(len(TRANSFORMS)), TRANSFORMS)
    by_transform.set(xlabel="transform", ylabel="test ACC_end", ylim=(0, 1))
    by_transform.legend(loc="center left")
    by_share.axhline(FAR, color="gray", linewidth=0.8, linestyle=":")
    by_share.set(xlabel="effective weights / weights", ylabel="behind the layered networks (test ACC_end)")
    return {"structure_outliers": figure}


def trades_make_outliers(runs: pd.DataFrame, components: pd.DataFrame) -> Finding:
    """Some: more than one in a hundred; of the layered ones at most one in ten."""
    each = networks(runs)
    layered, traded = (each[each["model.swap"] == 0]["outlier"], each[each["model.swap"] > 0]["outlier"])
    found = {
        "with trades": share(int(traded.sum()), len(traded), 0.01),
        "layered": share(int(layered.sum()), len(layered), 0.0, 0.1),
    }
    return all_of(found)


def the_rest_is_alike(runs: pd.DataFrame, components: pd.DataFrame) -> Finding:
    """On average no more than 0.03 apart from the layered ones."""
    each = networks(runs)
    rest = each[(each["model.swap"] > 0) & ~each["outlier"]]
    found = mean(rest.groupby("seed")["behind"].mean()).within(-0.03, 0.03, digits=3)
    return found.said(f"the {len(rest)} others are {found.measured} behind on average") if len(rest) else found


def outliers_lack_effective_weights(runs: pd.DataFrame, components: pd.DataFrame) -> Finding:
    """Their share of effective weights is smaller, on average, than that of the others: each network is a case."""
    each = networks(runs).set_index("run_id")
    outliers, rest = (part[SHARE] for part in (each[each["outlier"]], each[~each["outlier"]]))
    found = difference(rest, outliers).within(0)
    ends = f"share {outliers.mean():.2f} in {len(outliers)} outliers, {rest.mean():.2f} in the {len(rest)} others"
    return found.said(f"{ends}: {found.measured}")


CLAIMS = [
    Claim("H 3.2, Fig. 3.5", "Of small networks, trades make some outliers that fail to train", trades_make_outliers),
    Claim("H 3.2, Fig. 3.5", "All others do as well as the layered ones", the_rest_is_alike),
    Claim("H 3.2, Fig. 3.5", "Outliers have lost effective weights", outliers_lack_effective_weights),
]
