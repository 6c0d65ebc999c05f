"""Train, cut the smallest weights, and train on: what can a network do without?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from inn_lab.config import Terms
from inn_lab.identity import code, identity
from inn_lab.shared import Shared, digest
from inn_lab.studies import ModelJob
from inn_lab.studies.train import fit, fit_and_test, lightning, quiet
from inn_lab.training.pruning import prune as cut


@Terms(cuts=True)
def prune(job: ModelJob) -> str:
    """Cuts a trained network as `pruning` says and trains it on for `pruning.epochs` epochs, with a fresh optimizer and on the
    data that the training would have gone on with.

    The network is trained for `trainer.max_epochs` once, whatever is cut from it: jobs that differ in `pruning` alone share it
    (`outputs/trained`, which can be deleted at any time). Logs `base/val_acc_end` and `base/test_acc_end` before the cut, the
    same under `cut/` right after it, and `cut/weights`, how many weights are left; then what `train` logs, by epoch after the
    cut.

    Source: Darji 2022, 5.2. Raises ConfigError for a model of which nothing can be cut.
    """
    cfg = job.cfg.pruning
    job.model.weights()  # raises where there are none, before an hour of training
    base = base_of(job)
    if base is None:
        return "diverged"
    job.model.load_state_dict(base["weights"])
    job.model.to(job.device)  # what is cut stays where it is
    cut(job.model, cfg.target, cfg.scope, cfg.amount)
    after = accuracies(job)
    job.run.metrics(
        {f"base/{name}": value for name, value in base["accuracies"].items()}
        | {f"cut/{name}": value for name, value in after.items()}
        | {"cut/weights": job.model.n_weights}
    )
    return fit_and_test(job, cfg.epochs, earlier=job.cfg.trainer.max_epochs)


def base_of(job: ModelJob) -> dict[str, Any] | None:
    """The job's model trained without a cut, "weights" and "accuracies"; None if it diverged.

    By the first job that asks for it; the others wait. An interrupted training goes on from its checkpoint.
    """
    shared = shared_of(job)

    def make() -> dict[str, Any] | None:
        checkpoint = shared.folder / "checkpoint.pt"
        module = fit(replace(job, title=f"{job.title} · before the cut"), job.cfg.trainer.max_epochs, checkpoint, None)
        base = None if module.diverged else {"weights": job.model.state_dict(), "accuracies": accuracies(job)}
        checkpoint.unlink(missing_ok=True)
        return base

    return shared.once("base", make)


def shared_of(job: ModelJob, *more: str) -> Shared:
    """What jobs train in common that differ in `pruning` alone, and have in common what `more` says of it."""
    whole = OmegaConf.masked_copy(job.cfg, [str(key) for key in job.cfg if key not in ("pruning", "study")])
    which = digest(job.device, identity(whole), code(job.cfg).digest, *more)
    return Shared(Path(job.cfg.outputs) / "trained", which, job.device)


def accuracies(job: ModelJob) -> dict[str, float]:
    """ACC_end of the model as it is: "val_acc_end" and "test_acc_end"."""
    from inn_lab.training.module import Training

    module = Training(job.model, job.data, job.objective, debug=job.cfg.debug)
    with quiet():
        trainer = lightning(job.device, logger=None)
        (val,), (test,) = trainer.validate(module, verbose=False), trainer.test(module, verbose=False)
    return {"val_acc_end": val["val/acc_end"], "test_acc_end": test["test/acc_end"]}
