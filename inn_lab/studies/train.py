"""The plain study: train, then test the weights."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.figure
import pandas as pd
import torch

from inn_lab import machine, weights
from inn_lab.config import source
from inn_lab.errors import ConfigError
from inn_lab.models import Sequential2D
from inn_lab.models.implicit import NotConverged
from inn_lab.records import WEIGHTS, write_atomically
from inn_lab.studies import ModelJob
from inn_lab.studies.weight_space import log_pattern, log_weight_space
from inn_lab.tracking import series
from inn_lab.training.objectives import confusion

if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer
    from pytorch_lightning.loggers.logger import Logger

    from inn_lab.training.module import Training


def train(job: ModelJob, *callbacks: "Callback") -> str:
    """Trains for `trainer.max_epochs` (or `trainer.max_time` seconds), logs each epoch, tests, logs the confusion matrix (of
    more than 100 classes none, of a regression the answers), and keeps the weights. Logs `best/val_acc_end`, the highest
    validation ACC_end, by which MLflow can sort the runs (the last one it shows as `val/acc_end`). Where the validation counts
    (`trainer.patience`, `trainer.best_weights`), logs `best/epoch`, and `stopped/epoch` of a training that ended early, both
    counted from 0 as the steps of what is logged by epoch.

    Goes on from the job's checkpoint where there is one. A run of which a loss stops being a number, in training, validation or
    test, or a weight at the end of the training, is *diverged*: it is not trained further, and not tested. Nor is one that its
    search found hopeless, which is *pruned*.
    """
    if isinstance(job.model, Sequential2D):
        log_weight_space(job, job.model)
    if job.cfg.trainer.max_time:
        job.run.tag(**machine.tags(job.device))  # how far a clock lets it come depends on it
    return fit_and_test(job, job.cfg.trainer.max_epochs, *callbacks)


def fit_and_test(job: ModelJob, epochs: int, *callbacks: "Callback", earlier: int = 0) -> str:
    """`train`, but for what it logs beforehand; of a model that was trained for `earlier` epochs before."""
    from inn_lab.training.module import ToMLflow

    logger = ToMLflow(job.run)
    module = fit(job, epochs, job.run.record.checkpoint, logger, *callbacks, earlier=earlier)
    if module.diverged:
        return "diverged"
    if module.hopeless:
        return "pruned"
    trainer, best = job.cfg.trainer, module.best
    if best.epoch >= 0:
        job.run.metrics({"best/val_acc_end": best.acc_end})
    if best.epoch >= 0 and (trainer.patience or trainer.best_weights):
        job.run.metrics({"best/epoch": best.epoch} | ({"stopped/epoch": best.last} if best.stopped(epochs) else {}))
    with quiet():
        lightning(job.device, logger=logger).test(module, verbose=False)
    if module.diverged:
        return "diverged"
    logits, true = (torch.cat(parts) for parts in zip(*module.answers, strict=True))
    if true.is_floating_point():
        job.run.table("answers", pd.DataFrame({"true": true.flatten(), "answer": logits.flatten()}))  # (n · O,), row by row
    elif logits.shape[1] <= 100:
        log_confusion(job, confusion(logits, true))
    if job.method and isinstance(job.model, Sequential2D):
        log_pattern(job, job.model)
    if job.cfg.trainer.keep_weights:
        keep(job)
    return "finished"


def keep(job: ModelJob) -> None:
    """weights.safetensors among the run's artifacts: the model as it was tested. The tag `weights` is a digest of the file. A
    line says why if there is none."""
    try:
        content = weights.packed(job.model, weights.about(job.model, job.cfg, job.data, job.run.record))
    except ConfigError as error:
        print(f"{job.title} · the weights are not kept: {error}", flush=True)
        return
    job.run.file(WEIGHTS, lambda path: write_atomically(path, content))
    job.run.tag(weights=hashlib.sha256(content).hexdigest()[:12])


def fit(
    job: ModelJob, epochs: int, checkpoint: Path, logger: "Logger | None", *more: "Callback", earlier: int = 0
) -> "Training":
    """Trains the job's model, from the checkpoint on where there is one; what is measured goes to `logger`.

    The epochs are logged from 0 on, and their data are those that follow on `earlier` epochs. With `trainer.best_weights` the
    model then has the weights of the best epoch.
    """
    from inn_lab.training.best import Best
    from inn_lab.training.checkpoint import Checkpoint
    from inn_lab.training.debug import Overfit, Profile
    from inn_lab.training.module import Training
    from inn_lab.training.progress import ShowProgress
    from inn_lab.training.schedules import updates

    # isort: split
    from pytorch_lightning.callbacks import Timer

    cfg = job.cfg.trainer
    debug, best = job.cfg.debug, Best(cfg.patience, cfg.best_weights)
    factor = job.schedule(None if cfg.max_time else updates(job.data, epochs, debug))
    module = Training(
        job.model, job.data, job.objective, job.optimizer, factor, cfg.gradient_clip_val,
        earlier=earlier, best=best, debug=debug, method=job.method, trial=job.trial if logger else None, replay=replay_of(job),
    )  # fmt: skip
    keeper = Checkpoint(checkpoint, cfg.checkpoint_s)
    callbacks: list[Callback] = [keeper, *more, ShowProgress(job.title, cfg.progress)]
    if debug == "overfit":
        callbacks.append(Overfit(job.title))
    elif debug == "profile":
        callbacks.append(Profile(job.run, job.device))
    with quiet():
        trainer = lightning(job.device, max_epochs=epochs, logger=logger, callbacks=callbacks)
        trained = keeper.restore(trainer, module)
        if cfg.max_time:
            timer = Timer(timedelta(seconds=max(0.0, cfg.max_time - trained)), interval="step", verbose=False)
            trainer.callbacks.append(timer)  # type: ignore[attr-defined]  # Lightning sets it without saying so
        if module.trial:
            logged = series(job.run.record, module.trial.search.metric)
            before = {epoch: value for epoch, value in logged.items() if epoch < trainer.current_epoch}
            module.hopeless = module.trial.hopeless_after(before) is not None
        try:
            if not (module.diverged or module.hopeless or best.over):
                trainer.fit(module)
        except BaseException:
            keeper.flush()
            raise
    if best.stopped(epochs) and cfg.progress:
        print(f"{job.title} · no better validation ACC_end in {cfg.patience} epochs: ends after {best.last + 1}", flush=True)
    # A loss is measured before a step: it says nothing of the last one.
    module.diverged |= not all(weights.isfinite().all() for weights in job.model.parameters())
    if best.weights is not None and not module.diverged:
        job.model.load_state_dict(best.weights)
    return module


def replay_of(job: ModelJob) -> Callable[[str], None] | None:
    """Whom to tell why a step cannot be replayed on a GPU; None where it shall not be."""
    if job.device.type == "cpu" or job.cfg.trainer.cuda_graph is False or job.cfg.debug == "profile":
        return None

    def tell(why: str) -> None:
        print(f"{job.title} · trainer.cuda_graph=auto: {why}; Python computes each step", flush=True)

    # What Python counts or remembers in a step stands still in a replay. The lab's own code has nothing of the kind.
    own = [part for part in (job.model, job.objective) if not type(part).__module__.startswith("inn_lab.")]
    if own:
        tell(f"{type(own[0]).__name__} is not the lab's, and may do more in a step than the device sees")
        return None
    return tell


def lightning(device: torch.device, *, logger: "Logger | None", **options: Any) -> "Trainer":
    """Lightning's trainer on a device, of which the lab uses no files and no output."""
    from inn_lab import _torchvision  # noqa: F401  (before Lightning)

    # isort: split
    from pytorch_lightning import Trainer
    from pytorch_lightning.plugins.environments import LightningEnvironment

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index] if device.type == "cuda" else 1,
        reload_dataloaders_every_n_epochs=1,  # training sequences are drawn anew each epoch
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=logger or False,
        plugins=[LightningEnvironment()],  # one process, under SLURM too: its signals are the launcher's business
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without others' warnings that a user can do nothing about; what does not settle is told once, forward and backward.

    How many did not is in the log, as `settled`.
    """
    show, told = warnings.showwarning, set()

    def once(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        what = str(message).partition(":")[0]
        if category is not NotConverged or what not in told:
            told.add(what)
            show(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = once
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")  # Lightning 2.6 beside torch 2.13
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # one process needs none
        yield


def log_confusion(job: ModelJob, counts: torch.Tensor) -> None:
    """confusion.csv and confusion.png among the run's artifacts: rows are the true classes, columns the predicted ones."""
    figure = matplotlib.figure.Figure(figsize=(5, 5))  # a layout engine would take as long again as the drawing
    axes = figure.subplots()
    axes.imshow(counts.numpy(), cmap="Blues")
    for row, column in counts.nonzero().tolist():
        n = int(counts[row, column])
        axes.text(column, row, str(n), ha="center", va="center", fontsize=7, color="white" if n > counts.max() / 2 else "black")
    axes.set(xlabel="predicted", ylabel="true", xticks=range(len(counts)), yticks=range(len(counts)))
    axes.set_title(f"{job.title}\ntest, {source(job.cfg)}, seed {job.cfg.seed}", fontsize=8)
    table = pd.DataFrame(counts.numpy()).rename_axis(index="true").reset_index()
    job.run.table("confusion", table)
    job.run.file("confusion.png", partial(figure.savefig, dpi=120))
