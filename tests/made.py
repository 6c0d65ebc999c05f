"""Made-up runs for the tests of reports."""

import itertools

import numpy as np
import pandas as pd

COUNTER = itertools.count()
EPOCHS = {"finished": 20, "diverged": 5, "pruned": 5}  # others have one row, without an epoch
# How patterns were found, by the name in a report: what made them, in `inn_lab`.
TARGETS = {
    "random": "training.foresight.Random",
    "snip": "training.foresight.SNIP",
    "synflow": "training.foresight.SynFlow",
    "set": "training.rewiring.SET",
    "rigl": "training.rewiring.RigL",
    "gradual": "training.rewiring.Gradual",
    "ticket": "training.tickets.Iterative",
    "reinit": "training.tickets.Iterative",
    "ticket of random entries": "training.tickets.Iterative",
}


def one(R=0.1, n_weights=100_000, end=0.5, *, model="inn", data="random_anomaly", source="mnist", scale="paper", **values):
    """The columns of a made run, for `rows`. `values`: more of them, or others."""
    number = next(COUNTER)
    inn, anomaly = model == "inn", data.endswith("anomaly")
    return {
        "run_id": f"run{number}", "start": pd.Timestamp(number, unit="s"), "status": "FINISHED", "state": "finished",
        "model": model, "data": data, "source": source, "source.name": source, "scale": scale, "scale.name": scale,
        "R": R, "n_weights": n_weights, "seed": 0, "lr": 1e-4, "seq_len": 9, "trainer.max_epochs": 20,
        "model.R": R if inn else np.nan, "model.init": "normal" if inn else np.nan,
        "data._target_": f"inn_lab.data.{data}", "data.transforms": np.nan if anomaly else "both",
        "objective.index": anomaly or np.nan,
        "model/weights": n_weights, "outputs": f"out{number}", "device": "cpu", "commit": "0123456789", **values, "end": end,
    }  # fmt: skip


def rows(*ones: dict[str, object]) -> pd.DataFrame:
    """Runs whose validation ACC_end rises to `end` in 20 epochs (one that diverges stops after 5). If none is given the test
    ACC_end is `end` too. Thousands of rows at once: a frame for each run takes a millisecond."""
    lengths = [EPOCHS.get(one["state"], 0) for one in ones]
    epoch = np.concatenate([np.arange(length) if length else [np.nan] for length in lengths])
    made = pd.DataFrame(ones).iloc[np.repeat(np.arange(len(ones)), np.maximum(1, lengths))].reset_index(drop=True)
    tested = made.get("test/acc_end", pd.Series(np.nan, made.index))
    made["test/acc_end"] = tested.fillna(made["end"].where(made["state"] == "finished"))
    made["epoch"], made["val/acc_end"] = epoch, made.pop("end") * np.minimum(1, (epoch + 1) / 10)
    return made


def run(*place: float, **values: object) -> pd.DataFrame:
    """One made run, as `one` has it."""
    return rows(one(*place, **values))


def runs(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)
