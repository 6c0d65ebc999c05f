"""The reports on structure and iteration: what each claim says to runs that agree, differ or are too few."""

import numpy as np
import pandas as pd
import pytest
from made import one, rows, run, runs

from experiments import dataset_gallery, fixed_point, iterations, structure, structure_outliers
from experiments.claims import claims_table
from experiments.verdicts import AGREES, DIFFERS, TOO_FEW


def verdicts(module, frame: pd.DataFrame, **tables: pd.DataFrame) -> list[str]:
    return claims_table(module.CLAIMS, frame, **tables)["verdict"].tolist()


def described(swap=0.0, test=0.927, loss=0.05, effective=1.0, transforms="both", **values) -> dict[str, object]:
    """A network that is trained, for `rows`."""
    ends = {"test/acc_end": test, "train/loss": loss, "model/weights_effective": effective * 1000}
    common = {"model": "layered_inn", "data": "mnist_classification", "n_weights": 1000}
    return one(**{**common, "model.swap": swap, "data.transforms": transforms, **ends, **values})


def network(*place: float, **values) -> pd.DataFrame:
    return rows(described(*place, **values))


def components(frame: pd.DataFrame) -> pd.DataFrame:
    cells = pd.DataFrame({"row": [0, 0, 1, 1], "column": [0, 1, 0, 1], "trains": [1, 0, 0, 1]})
    return pd.concat([cells.assign(run_id=run_id) for run_id in frame["run_id"].unique()], ignore_index=True)


def ten(swap: float, **values: float) -> list[pd.DataFrame]:
    """Networks that scatter a little around the values."""
    rng = np.random.default_rng(int(10 * swap))
    return [
        network(swap, seed=seed, **{key: value + 0.005 * rng.standard_normal() for key, value in values.items()})
        for seed in range(10)
    ]


ALIKE = {"test": 0.927, "loss": 0.05}


@pytest.mark.parametrize(
    "others, expected",
    [
        (ALIKE, [AGREES, AGREES, AGREES]),
        ({"test": 0.927, "loss": 0.15}, [DIFFERS, AGREES, AGREES]),
        ({"test": 0.80, "loss": 0.05}, [AGREES, DIFFERS, DIFFERS]),
    ],
)
def test_claims_on_structure(others, expected) -> None:
    frame = runs(*ten(0.0, **ALIKE), *ten(0.2, **others), *ten(0.5, **others))
    assert verdicts(structure, frame, components=components(frame)) == expected
    lost = frame.assign(state=frame["state"].mask((frame["model.swap"] == 0.5) & (frame["seed"] < 5), "diverged"))
    assert verdicts(structure, lost, components=components(lost)) == [DIFFERS] * 3
    few = runs(*ten(0.0, **ALIKE), network(0.2))
    assert set(verdicts(structure, few, components=components(few))) == {TOO_FEW}


def small(lost: int = 6, effective: float = 0.1, rest: float = 0.0, layered: float = 0.9, seeds: int = 10) -> pd.DataFrame:
    """As many small networks of each kind on each transform; `lost` of those with trades fail, and half of the layered ones
    come to `layered`."""
    made = []
    for transforms in structure_outliers.TRANSFORMS:
        made += [described(0.0, layered if seed % 2 else 0.9, transforms=transforms, seed=seed) for seed in range(seeds)]
        for swap in (0.2, 0.5):
            fails = [seed < lost and swap == 0.5 and transforms == "both" for seed in range(seeds)]
            made += [
                described(swap, 0.2, 0.05, effective, transforms, seed=seed)
                if fails[seed]
                else described(swap, 0.9 - rest, 0.05, 0.8, transforms, seed=seed)
                for seed in range(seeds)
            ]
    return rows(*made)


@pytest.mark.parametrize(
    "made, expected",
    [
        ({}, [AGREES, AGREES, AGREES]),
        ({"lost": 0}, [TOO_FEW, AGREES, TOO_FEW]),  # none of 80
        ({"lost": 0, "seeds": 60}, [DIFFERS, AGREES, TOO_FEW]),
        ({"layered": 0.1}, [DIFFERS, DIFFERS, TOO_FEW]),  # of these too many fail, with all their weights effective
        ({"rest": 0.1}, [AGREES, DIFFERS, AGREES]),
        ({"effective": 0.95}, [AGREES, AGREES, DIFFERS]),
    ],
)
def test_claims_on_outliers(made, expected) -> None:
    frame = small(**made)
    assert verdicts(structure_outliers, frame, components=components(frame)) == expected


def test_what_differs_so_much_among_itself_that_it_cannot_be_told_is_not_alike() -> None:
    frame = runs(
        *(network(swap, test, 1 - test, seed=seed) for swap, found in SCATTERED.items() for seed, test in enumerate(found))
    )
    assert verdicts(structure, frame, components=components(frame))[1] == TOO_FEW


SCATTERED = {0.0: (0.90, 0.91, 0.89), 0.2: (0.88, 0.55, 0.89)}


def test_networks_that_diverge_are_outliers() -> None:
    frame = small()
    frame = frame.assign(state=frame["state"].mask(frame["test/acc_end"] == 0.2, "diverged"), **{"test/acc_end": 0.9})
    assert verdicts(structure_outliers, frame, components=components(frame))[0] == AGREES


def test_no_verdict_on_a_few_outliers() -> None:
    frame = runs(network(0.0, 0.9), network(0.5, 0.9), network(0.5, 0.1))
    assert set(verdicts(structure_outliers, frame, components=components(frame))) == {TOO_FEW}


def probed(frame: pd.DataFrame, accuracy, distance) -> pd.DataFrame:
    """The table of each run's first twenty iterations."""
    k = np.arange(1, 21)
    parts = [
        pd.DataFrame(
            {"run_id": run_id, "iteration": k, "acc_end": accuracy(one, k), "distance": distance(one, k), "norm": 10.0}
        )
        for run_id, one in frame.drop_duplicates("run_id").set_index("run_id").iterrows()
    ]
    return pd.concat(parts, ignore_index=True)


def shrinking(_, k):
    return 8.0 * 0.5**k


def still(end=0.7, **values) -> pd.DataFrame:
    return run(model="inn", data="mnist_classification", end=end, **values)


@pytest.mark.parametrize(
    "ends, distance, expected",
    [
        ({1: 0.6, 2: 0.7, 3: 0.71, 5: 0.7}, shrinking, [AGREES, AGREES, AGREES]),
        ({1: 0.75, 2: 0.7, 3: 0.71, 5: 0.7}, shrinking, [DIFFERS, AGREES, AGREES]),
        ({1: 0.5, 2: 0.6, 3: 0.71, 5: 0.7}, lambda _, k: 1.0 * k, [AGREES, DIFFERS, DIFFERS]),
        ({1: 0.5, 2: 0.6}, shrinking, [TOO_FEW, TOO_FEW, AGREES]),
    ],
)
def test_claims_on_iterations(ends, distance, expected) -> None:
    frame = runs(*(still(end, **{"data.iterations": k, "seed": seed}) for k, end in ends.items() for seed in range(9)))
    probe = probed(frame, lambda _, k: 0.7 + 0 * k, distance)
    assert verdicts(iterations, frame, probe=probe) == expected
    assert verdicts(iterations, frame, probe=probe[:0]) == [*expected[:2], TOO_FEW]
    assert set(verdicts(iterations, frame[frame["seed"] == 0], probe=probe)) == {TOO_FEW}
    diverged = runs(frame, still(state="diverged", **{"data.iterations": 5, "seed": 9}))
    assert verdicts(iterations, diverged, probe=probe)[2] == DIFFERS  # what it would do is not in the table


def pair(seeds: int = 3) -> pd.DataFrame:
    models = ("inn", "layered_inn")
    return runs(*(run(model=model, data="mnist_classification", seed=seed) for model in models for seed in range(seeds)))


def as_the_thesis(one, k):
    return np.where(k >= (4 if one["model"] == "layered_inn" else 2), 0.7, 0.1)


@pytest.mark.parametrize(
    "accuracy, expected",
    [
        (as_the_thesis, [AGREES, AGREES, AGREES, AGREES, AGREES]),
        (lambda one, k: np.where(k > 10, 0.3, as_the_thesis(one, k)), [DIFFERS, DIFFERS, AGREES, AGREES, AGREES]),
        (lambda one, k: 0.7 + 0 * k, [AGREES, AGREES, DIFFERS, DIFFERS, AGREES]),
    ],
)
def test_claims_on_fixed_points(accuracy, expected) -> None:
    frame = pair(9)
    assert verdicts(fixed_point, frame, probe=probed(frame, accuracy, shrinking)) == expected


def test_fixed_points_that_move_and_none_at_all() -> None:
    frame = pair(seeds=1)
    one = verdicts(fixed_point, frame, probe=probed(frame, as_the_thesis, shrinking))
    assert one == [TOO_FEW, TOO_FEW, AGREES, TOO_FEW, TOO_FEW]
    frame = pair()
    assert verdicts(fixed_point, frame, probe=probed(frame, as_the_thesis, lambda _, k: 1.0 * k))[-1] == DIFFERS
    assert set(verdicts(fixed_point, frame, probe=probed(frame, as_the_thesis, shrinking)[:0])) == {TOO_FEW}


def test_figures_of_whatever_is_there() -> None:
    frame = small()
    assert set(structure_outliers.figures(frame, components(frame))) == {"structure_outliers"}
    for part in (frame, runs(network(0.2))):
        assert set(structure.figures(part, components(part))) == {"structure_spaces", "structure"}
    frame = runs(still(**{"data.iterations": 3}))
    for probe in (probed(frame, as_the_thesis, shrinking), probed(frame, as_the_thesis, shrinking)[:0]):
        assert set(iterations.figures(frame, probe)) == {"iterations", "iterations_probe"}
        assert set(fixed_point.figures(frame, probe)) == {"fixed_point"}


def test_a_gallery_frames_the_anomaly() -> None:
    frame = runs(
        run(data="random_anomaly"),
        run(data="mnist_classification", **{"data.transforms": "erase"}),
        run(data="cifar10", **{"data.transforms": "none"}),
    )
    series, single, colour = frame["run_id"].unique()
    pixels = bytes(range(100)).hex()
    steps = [{"run_id": series, "example": 0, "step": s, "answer": 1, "kind": "", "pixels": pixels} for s in range(3)]
    kinds = [{"run_id": series, "example": -1, "step": 0, "answer": -1, "kind": "blur", "pixels": pixels}]
    one = [{"run_id": single, "example": 0, "step": 0, "answer": 7, "kind": "", "pixels": pixels}]
    one.append({"run_id": colour, "example": 0, "step": 0, "answer": 0, "kind": "", "pixels": bytes(range(3 * 64)).hex()})
    made = dataset_gallery.figures(frame, pd.DataFrame(steps + kinds + one))
    assert set(made) == {f"dataset_gallery_{what}" for what in ("random_anomaly", "mnist_classification", "cifar10", "kinds")}
    framed = [axes.spines["top"].get_visible() for axes in made["dataset_gallery_random_anomaly"].axes]
    assert framed == [False, True, False]
    (axes,) = made["dataset_gallery_cifar10"].axes
    assert axes.images[0].get_array().shape == (8, 8, 3) and not axes.spines["top"].get_visible()
