"""A sweep's figures and claims as files of its parent run in MLflow (`hydra.sweeper.report` names `log`)."""

from functools import partial

from experiments import report
from experiments.drawing import module_of, study
from inn_lab import tracking


def log(run: tracking.Run, outputs: str, experiment: str, sweep: str) -> tuple[str, list[tuple[str, ...]]] | None:
    """Logs FIGURE.png and EXPERIMENT_claims.csv of a sweep's runs. Returns which runs they show, and source, sentence,
    measured and verdict of the claims that have runs. None, and nothing is logged, for an experiment without a report.

    Raises ConfigError if nothing can be drawn.
    """
    if module_of(experiment) is None:
        return None
    drawn = study(experiment, {"sweep": sweep}, outputs)
    if drawn is None:
        return None
    for file, figure in drawn.figures().items():
        box = report.lay_out(figure, drawn.runs)
        run.file(f"{file}.png", partial(figure.savefig, dpi=report.DPI, bbox_inches=box))
    run.table(f"{experiment}_claims", drawn.claims)
    measured = drawn.claims[drawn.claims["measured"] != "no runs"].drop(columns="measured_on")
    return drawn.note, list(measured.itertuples(index=False, name=None))
