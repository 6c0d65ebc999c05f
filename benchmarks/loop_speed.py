"""The cost of Lightning: the same epochs by a bare loop and by the lab's LightningModule.

    python -m benchmarks.loop_speed [--epochs 10]

Random anomaly, length 9, on the bundled digits; an INN of 100,000 weights at R=0.1, stored as CSR; training and validation. The
median epoch is compared, after a first one that compiles and fills caches.
"""

import argparse
import logging
import statistics
import time
import warnings

from benchmarks.common import count
from inn_lab import _torchvision  # noqa: F401  (before Lightning)

# isort: split
import pytorch_lightning as L
import torch

from inn_lab.data import RandomAnomaly, load
from inn_lab.models import INN
from inn_lab.seeding import generator
from inn_lab.training.module import Training
from inn_lab.training.objectives import Anomaly


def parts() -> tuple[RandomAnomaly, INN, Anomaly]:
    sizes = {"n_train": 2000, "n_val": 200, "n_test": 200, "batch_size": 32, "mean": 0.3053, "std": 0.3760, "seed": 0}
    data = RandomAnomaly(load("digits", None), 9, **sizes)
    return data, INN(data.n_inputs, data.n_outputs, n_weights=100_000, R=0.1, generator=generator(0, "model")), Anomaly()


def bare(epochs: int) -> list[float]:
    """Seconds an epoch of the plainest loop that trains and validates."""
    data, model, objective = parts()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    seconds = []
    for epoch in range(epochs):
        start = time.perf_counter()
        for x, y in data.batches("train", epoch):
            optimizer.zero_grad()
            objective.loss(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            for x, y in data.batches("val"):
                objective.loss(model(x), y)
        seconds.append(time.perf_counter() - start)
    return seconds


class Clock(L.Callback):
    def __init__(self) -> None:
        self.ticks: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.ticks.append(time.perf_counter())


def lightning(epochs: int) -> list[float]:
    """Seconds an epoch of `Training`, with everything that it counts and logs but MLflow."""
    clock = Clock()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs + 1,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[clock],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    data, model, objective = parts()
    trainer.fit(Training(model, data, objective, lambda params: torch.optim.Adam(params, lr=1e-3, fused=True)))
    return [after - before for before, after in zip(clock.ticks, clock.ticks[1:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description="The same epochs by a bare loop and by Lightning.")
    parser.add_argument("--epochs", type=count, default=10, help="that are timed; one more comes first")
    epochs = parser.parse_args().epochs
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    results = {way.__name__: statistics.median(way(epochs + 1)[1:]) for way in (bare, lightning)}
    for way, seconds in results.items():
        print(f"{way:12}{seconds:8.3f} s/epoch{seconds / results['bare']:8.2f}")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
