"""Made-up runs for the tests of reports."""

import numpy as np
import pandas as pd

COUNTER = iter(range(100_000))
EPOCHS = {"finished": range(20), "diverged": range(5)}


def run(R=0.1, n_weights=100_000, end=0.5, *, model="inn", data="random_anomaly", source="mnist", scale="paper", **values):
    """A made run whose validation ACC_end rises to `end` in 20 epochs (one that diverges stops after 5). `values`: columns."""
    number = next(COUNTER)
    inn, anomaly = model == "inn", data.endswith("anomaly")
    common = {
        "run_id": f"run{number}", "start": pd.Timestamp(number, unit="s"), "status": "FINISHED", "state": "finished",
        "model": model, "data": data, "source": source, "source.name": source, "scale": scale, "scale.name": scale,
        "R": R, "n_weights": n_weights, "seed": 0, "lr": 1e-4, "seq_len": 9, "trainer.max_epochs": 20,
        "model.R": R if inn else np.nan, "model.init": "normal" if inn else np.nan,
        "data._target_": f"inn_lab.data.{data}", "data.transforms": np.nan if anomaly else "both",
        "objective.index": anomaly or np.nan,
        "model/weights": n_weights, "outputs": f"out{number}", "device": "cpu", "commit": "0123456789", **values,
    }  # fmt: skip
    epochs = EPOCHS.get(common["state"], [np.nan])
    return pd.DataFrame([{**common, "epoch": epoch, "val/acc_end": end * np.minimum(1, (epoch + 1) / 10)} for epoch in epochs])


def runs(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)
