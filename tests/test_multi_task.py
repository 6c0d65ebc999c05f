"""The report on the second task, on made runs whose answer is known."""

import pytest
from made import one, rows

from experiments import multi_task, selection
from experiments.claims import claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW


@pytest.mark.parametrize(
    "ends, seeds, expected",
    [
        ({("random_anomaly", "True"): 0.7}, 3, [DIFFERS, DIFFERS, AGREES, AGREES]),
        ({("uniform_anomaly", "True"): 0.55, ("random_anomaly", "True"): 0.1}, 1, [TOO_FEW, TOO_FEW, DIFFERS, DIFFERS]),
    ],
)
def test_claims_on_the_second_task(ends, seeds, expected):
    given = {("uniform_anomaly", "True"): 0.4, ("random_anomaly", "True"): 0.3, **ends}
    ones = [
        one(end=given.get((data, flag), 0.55), data=data, seed=seed, lr=1e-3,
            **{"objective.flag": flag, "data.flag": flag, "data/test": 10_000, "data/val": 10_000})
        for data in multi_task.TASKS for flag in multi_task.STYLES for seed in range(seeds)
    ]  # fmt: skip
    runs, note = selection.select(rows(*ones), multi_task.AXES, {})
    assert note == f"{4 * seeds} of {4 * seeds} runs"
    assert list(claims_table(multi_task.CLAIMS, runs)["verdict"]) == expected
    (figure,) = multi_task.figures(runs).values()
    assert [axes.get_legend_handles_labels()[1] for axes in figure.axes] == [["flag and index", "index alone"]] * 2
