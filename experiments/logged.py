"""A sweep's figures and claims as files of its parent run in MLflow (`hydra.sweeper.report` names `log`)."""

from functools import partial

from experiments import files
from experiments.drawing import module_of, study
from inn_lab import tracking

Told = tuple[list[str], str, list[tuple[str, ...]]]


def log(run: tracking.Run, outputs: str, experiment: str, sweep: str) -> Told:
    """Logs FIGURE.png and EXPERIMENT_claims.csv of a sweep's runs. Returns the figures' files, which runs they show, and
    source, sentence, measured and verdict of the claims that have runs. All are empty for an experiment without a report.

    Raises ConfigError if nothing can be drawn.
    """
    drawn = study(experiment, {"sweep": sweep}, outputs) if module_of(experiment) else None
    if drawn is None:
        return [], "", []
    drawings = []
    for name, figure in drawn.figures().items():
        drawings.append(f"{name}.png")
        run.file(drawings[-1], partial(figure.savefig, dpi=files.DPI, bbox_inches=files.lay_out(figure, drawn.runs)))
    run.table(f"{experiment}_claims", drawn.claims)
    measured = drawn.claims[drawn.claims["measured"] != "no runs"].drop(columns="measured_on")
    return drawings, drawn.note, list(measured.itertuples(index=False, name=None))
