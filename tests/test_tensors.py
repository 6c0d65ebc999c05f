"""A user's own sequences: what goes in comes out, each in one part, and a file that makes no sense is answered by one line."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import SMOKE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from test_inputs import NASTY, ask  # noqa: F401  (a fixture)

from inn_lab import machine, parts
from inn_lab.data import Tensors
from inn_lab.data.sets import PARTS
from inn_lab.errors import ConfigError, NotHere
from inn_lab.models import GRU
from inn_lab.seeding import generator
from inn_lab.training.objectives import Targets

KINDS = ("a class at the end", "a class at each step", "a value at the end", "values at the end", "values at each step")
FORMATS = (".npz", ".safetensors", "rows of sequences.parquet", "flat rows.parquet.gzip", "rows of steps.parquet")
DOCS = Path(__file__).parents[1] / "docs" / "data.md"


def data(path: Path | str, **keys) -> Tensors:
    given = {"n_train": None, "n_val": None, "n_test": None, "batch_size": 4, "seed": 0, **keys}
    return Tensors(str(path), **given)


def drawn(n: int, steps: int, inputs: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x, whose first number is the sequence's number, and y: two classes, or O = 1, 3 or 2 values."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 50, (n, steps, inputs))
    x[:, 0, 0] = np.arange(n)
    shape = dict(zip(KINDS, [(n,), (n, steps), (n,), (n, 3), (n, steps, 2)], strict=True))[kind]
    if "value" in kind:
        return x, rng.normal(size=shape).astype(np.float32)
    y = rng.integers(0, 2, shape)
    y.reshape(n, -1)[:, 0] = np.arange(n) % 2  # both are there
    return x, y


def write(path: Path, arrays: dict[str, np.ndarray], part: np.ndarray | None) -> None:
    """The sequences in the format that the file's name says: of a table, what stands after a sequence's end is left out."""
    x, y, lengths = arrays["x"], arrays["y"], arrays.get("lengths", np.full(len(arrays["x"]), arrays["x"].shape[1]))
    if path.suffix in (".npz", ".safetensors"):
        if part is not None:
            arrays = {f"{name}_{which}": array[part == which] for name, array in arrays.items() for which in PARTS}
        np.savez(path, **arrays) if path.suffix == ".npz" else save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, path
        )
        return
    real = y.dtype.kind == "f"
    each = y.ndim == 2 + real
    table = pd.DataFrame({"x": [sequence[:n].tolist() for sequence, n in zip(x, lengths, strict=True)]})
    table["y"] = [answer[:n].tolist() if each else answer.tolist() for answer, n in zip(y, lengths, strict=True)]
    if part is not None:
        table["part"] = part
    if path.name.startswith("flat"):
        table["steps"], table["x"] = lengths, [np.ravel(sequence) for sequence in table["x"]]
    if path.name.startswith("rows of steps"):
        table = pd.concat(
            pd.DataFrame(row.x).add_prefix("input").assign(
                sequence=f"s{number:04}", step=range(7, 7 + len(row.x)),
                y=pd.array(row.y if each else [None for _ in row.x[1:]] + [row.y], "Float64" if real else "Int64"),
                **({} if part is None else {"part": row.part}),
            ).iloc[::-1]
            for number, row in enumerate(table.itertuples())
        )  # fmt: skip
    table.to_parquet(path)  # with an index of pandas' own, where it is no plain range


def expected(y: np.ndarray, at: int, length: int) -> list:
    """The answers of a sequence, one a step, None where nothing is asked."""
    real = y.dtype.kind == "f"
    answer = y[at]
    if answer.ndim == (2 if real else 1):
        return answer[:length].tolist()
    return [None] * (length - 1) + [np.atleast_1d(answer).tolist() if real else int(answer)]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_goes_in_comes_out(tmp_path, draw) -> None:
    n, steps, inputs = draw.draw(st.tuples(st.integers(6, 15), st.integers(1, 5), st.integers(1, 3)), "sizes")
    kind, ends, seed = draw.draw(st.sampled_from(KINDS)), draw.draw(st.sampled_from(FORMATS)), draw.draw(st.integers(0, 9))
    ragged, divided = draw.draw(st.booleans(), "ragged"), draw.draw(st.booleans(), "divided")
    if ends.startswith("rows of steps") and kind.startswith("values"):
        kind = "a value at the end"
    x, y = drawn(n, steps, inputs, kind, seed)
    arrays = {"x": x.astype(draw.draw(st.sampled_from(["f2", "f4", "f8", "u1", "i8"]))), "y": y}
    lengths = np.random.default_rng(seed).integers(1, steps + 1, n) if ragged else np.full(n, steps)
    if ragged:
        arrays["lengths"] = lengths
    part = np.resize(PARTS, n) if divided else None
    path = tmp_path / (f"own{ends}" if ends.startswith(".") else ends)
    write(path, arrays, part)
    found, seen = data(path, seed=seed, batch_size=draw.draw(st.integers(1, 7))), []
    assert (found.n_inputs, found.n_outputs) == (inputs, dict(zip(KINDS, [2, 2, 1, 3, 2], strict=True))[kind])
    for which in PARTS:
        batches = list(found.batches(which, epoch=3))
        assert len(batches) == len(found.batches(which)) and sum(len(xs) for xs, _ in batches) == found.sizes[which]
        for xs, ys in batches:
            numbers = xs[:, 0, 0].int().tolist()
            assert xs.shape[1] == ys.shape[1] == lengths[numbers].max() <= found.steps
            for number, sequence, answer in zip(numbers, xs, ys, strict=True):
                length = lengths[number]
                assert sequence[:length].tolist() == x[number, :length].tolist() and not sequence[length:].any()
                asked = [
                    None if np.isnan(value).any() or (y.dtype.kind == "i" and value == -100) else value
                    for value in answer.tolist()
                ]
                assert asked == expected(y, number, length) + [None] * (xs.shape[1] - length)
                assert part is None or part[number] == which
            seen += numbers
    assert sorted(seen) == list(range(n))


def ids(found: Tensors) -> dict[str, list[int]]:
    return {part: [int(number) for x, _ in found.batches(part) for number in x[:, 0, 0]] for part in PARTS}


def test_the_seed_divides(tmp_path) -> None:
    x, y = drawn(100, 2, 1, KINDS[0])
    np.savez(tmp_path / "own.npz", x=x, y=y)
    path = tmp_path / "own.npz"
    one = ids(data(path))
    assert [len(one[part]) for part in PARTS] == [80, 10, 10] and ids(data(path)) == one
    assert not set(ids(data(path, seed=1))["test"]) <= set(one["test"])
    fewer = ids(data(path, n_train=20))
    assert fewer["val"] == one["val"] and fewer["test"] == one["test"] and set(fewer["train"]) < set(one["train"])
    first, second = (next(iter(data(path).batches("train", epoch)))[0][:, 0, 0].tolist() for epoch in (0, 1))
    assert first != second


def test_a_divided_part_is_cut_to_its_first(tmp_path) -> None:
    x, y = drawn(30, 2, 1, KINDS[0])
    write(tmp_path / "own.npz", {"x": x, "y": y}, np.repeat(PARTS, 10))
    cut = ids(data(tmp_path / "own.npz", n_train=4, n_test=2))
    assert (sorted(cut["train"]), cut["val"], cut["test"]) == ([0, 1, 2, 3], list(range(10, 20)), [20, 21])


# ------------------------------------------------------------------------------------------------------- what is wrong

X, Y = np.ones((6, 4, 2)), np.arange(6) % 2
THREE = {f"{name}_{part}": array for name, array in (("x", X), ("y", Y)) for part in PARTS}
LISTS = {"x": [[[1.0, 2.0]] * 3] * 6, "y": [0, 1] * 3}
LONG = {"sequence": np.repeat(np.arange(6), 2), "step": [0, 1] * 6, "a": np.ones(12), "y": [0, 1] * 6}


def having(array: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"y": Y}, "there is no x, only y"),
        ({"x": X}, "there is no y, only x"),
        ({}, "there is no x, only nothing"),
        ({"x": X, "y": Y, "length": Y}, "it has length, which means nothing here; did you mean lengths"),
        ({"x": X, "y": Y, "x_val": X}, "it has x and x_val; give all sequences together or in three parts"),
        ({name: array for name, array in THREE.items() if name != "y_val"}, "there is no y_val, only "),
        ({**THREE, "x_val": X[..., :1]}, "the val part has 1 inputs and classes at the end, and the train part 2 inputs"),
        ({**THREE, "y_test": Y / 2}, "the test part has 2 inputs and real values (1) at the end"),
        ({"x": X[0], "y": Y}, "x has the shape (4, 2); it must be (sequences, steps, inputs)"),
        ({"x": X[:, :0], "y": Y}, "x has the shape (6, 0, 2)"),
        ({"x": X[:0], "y": Y[:0]}, "x has the shape (0, 4, 2)"),
        ({"x": X, "y": Y[:5]}, "y has the shape (5,); it must begin with 6"),
        ({"x": X, "y": np.int64(1)}, "y has the shape (); it must begin with 6"),
        ({"x": X, "y": np.tile(Y[:, None], 3)}, "y has the shape (6, 3); classes are (n,) or (n, T), here with n = 6 and T = "),
        ({"x": X, "y": np.ones((6, 3, 2))}, "y has the shape (6, 3, 2); real values are (n,), (n, O) or (n, T, O), here with"),
        ({"x": X, "y": np.ones((6, 0))}, "y has the shape (6, 0)"),
        ({"x": having(X, (3, 2, 1), np.nan), "y": Y}, "x[3, 2, 1] is nan; numbers must be finite"),
        ({"x": having(X, (3, 2, 1), 1e300), "y": Y}, "x[3, 2, 1] is inf; numbers must be finite, in 32 bits"),
        ({"x": X, "y": having(X, (3, 2, 1), -np.inf)}, "y[3, 2, 1] is -inf"),
        ({"x": X, "y": having(Y, (3,), -1)}, "y[3] is -1; classes are counted from 0"),
        ({"x": X, "y": np.zeros(6, int)}, "y has only the class 0; a task has two at least"),
        ({"x": X, "y": having(Y, (3,), 6)}, "y has the class 6 among 6 answers"),
        ({"x": X, "y": Y, "lengths": having(Y, (0,), 5)}, "lengths[0] is 5; a length is from 1 to 4"),
        ({"x": X, "y": Y, "lengths": Y}, "lengths[0] is 0; a length is from 1 to 4"),
        ({"x": X, "y": Y, "lengths": Y / 2}, "lengths must be a whole number for each sequence"),
        ({"x": X, "y": Y, "lengths": Y[:3]}, "lengths has the shape (3,)"),
        ({"x": X[:2], "y": Y[:2]}, "it has 2 sequences, and n_train=1, n_val=1, n_test=1 take 3; ask for fewer"),
        ({"x": X, "y": Y.astype(str)}, "y holds <U21; it must hold integers or floats"),
        ({"x": X + 1j, "y": Y}, "x holds complex128"),
        ({"x": X.astype(object), "y": Y}, "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)  # fmt: skip
def test_arrays_that_make_no_sense(tmp_path, arrays, message) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    answered(tmp_path / "own.npz", message)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"a": [1]}, "it has the columns a, neither x nor sequence and step"),
        ({"x": [], "y": []}, "it has no rows"),
        ({**LISTS, "z": [0] * 6}, "it has a column z; with a row a sequence there are x, y, steps and part"),
        ({**LISTS, "x": [1.0] * 6}, "x must hold a list of lists in each row, or one list with a column steps"),
        ({**LISTS, "x": [[1.0] * 3] * 6}, "x must hold a list of lists in each row, or one list with a column steps"),
        ({**LISTS, "x": [[1.0] * 3] * 6, "steps": [2] * 6}, "steps must be whole numbers that divide the lengths"),
        ({**LISTS, "x": [[1.0] * 3] * 6, "steps": [3] * 5 + [1]}, "x has now 1 and now 3 inputs at each step"),
        ({**LISTS, "x": [[[1.0, 2.0], [3.0]]] * 6}, "x has now 1 and now 2 inputs at each step; it must be one number"),
        ({**LISTS, "x": [[["a"]]] * 6}, "it must hold numbers"),
        ({**LISTS, "x": [*LISTS["x"][:4], [[1.0, 2.0], [None, 2.0]], LISTS["x"][5]]}, "x is null in row 4"),
        ({**LISTS, "x": [[]] * 6}, "x holds list<element: null>; it must hold numbers"),
        ({**LISTS, "x": [*LISTS["x"][:5], []]}, "lengths[5] is 0"),
        ({**LISTS, "y": [0, 1, None, 1, 0, 1]}, "y is null in row 2"),
        ({**LISTS, "y": [[0, 1, 1]] * 5 + [[0, 1]]}, "row 5 has 3 steps in x and 2 in y"),
        ({**LISTS, "y": [[0.5, 1]] * 5 + [[0.5]]}, "y has now 1 and now 2 values in each row"),
        ({**LISTS, "part": ["train"] * 3 + ["dev"] * 3}, "part has 'dev'; it must be train, val or test"),
        ({**LISTS, "part": ["train"] * 3 + ["test"] * 3}, "x_val has the shape (0, 3, 2)"),
        ({**LONG, "step": [0, 2] * 6}, "the steps of sequence 0 must be whole numbers without gaps, each once"),
        ({**LONG, "step": [0, 1] * 5 + [1, 1]}, "the steps of sequence 5 must be"),
        ({**LONG, "step": [0.0, 1.0] * 6}, "the steps of sequence 0 must be"),
        ({**LONG, "a": [1.0] * 7 + [None] + [1.0] * 4}, "a is null in row 7"),
        ({**LONG, "a": [[1.0]] * 12}, "each column but part has a number in each row"),
        ({name: LONG[name] for name in ("sequence", "step", "y")}, "each column but part has a number in each row"),
        ({**LONG, "a": ["b"] * 12}, "a holds string; it must hold numbers"),
        ({**LONG, "y": [None, 1] * 5 + [0, 1]}, "y of sequence 5 is there at step 0; it must be there at all steps, or at "),
        ({**LONG, "y": [0, None] * 6}, "y of sequence 0 is there at step 0"),
        ({**LONG, "part": ["train", "val"] * 6}, "sequence 0 is in two parts"),
        ({name: LONG[name] for name in ("sequence", "step", "a")}, "there is no y, only x"),
    ],
)  # fmt: skip
def test_tables_that_make_no_sense(tmp_path, columns, message) -> None:
    pq.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), tmp_path / "own.parquet")
    answered(tmp_path / "own.parquet", message)


def answered(path: Path, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data(path)
    text = str(caught.value)
    assert message in text and text.startswith(f"path={path}: ") and text.count("docs/data.md") == 1 and "\n" not in text


@pytest.mark.parametrize("end", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize(
    "content", [b"", b"x,y\n1,2\n", b"PK\x03\x04half", b"\x80\x04K\x01."], ids=["empty", "csv", "half", "pickle"]
)
def test_files_that_are_none(tmp_path, end, content) -> None:
    (tmp_path / f"own{end}").write_bytes(content)
    answered(tmp_path / f"own{end}", "it cannot be read as sequences (")


@pytest.mark.parametrize("end", [".npz", ".safetensors", ".parquet", ".parquet.gzip"])
def test_no_file_and_a_folder(tmp_path, end) -> None:
    answered(tmp_path / f"nowhere{end}", "there is no such file")
    (tmp_path / f"folder{end}").mkdir()
    answered(tmp_path / f"folder{end}", "it is a folder or a device")


@pytest.mark.parametrize("ends", FORMATS)
def test_what_does_not_fit_into_memory_is_not_read(tmp_path, monkeypatch, ends) -> None:
    x, y = drawn(50, 5, 4, KINDS[0])
    path = tmp_path / (f"own{ends}" if ends.startswith(".") else ends)
    write(path, {"x": x, "y": y}, None)
    monkeypatch.setattr(machine, "memory", lambda device: 2000)
    with pytest.raises(NotHere, match="of memory, and this machine has"):
        data(path)


# ------------------------------------------------------------------------------------------------------- the objective


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), st.integers(2, 4), st.booleans())
def test_targets_against_their_equations(seed, batch, steps, n_outputs, real) -> None:
    rng = generator(seed)
    outputs = torch.randn(batch, steps, n_outputs, generator=rng, dtype=torch.float64)
    asked = torch.rand(batch, steps, generator=rng) < 0.5
    asked[:, int(torch.randint(steps, (), generator=rng))] = True
    if real:
        y = (outputs + torch.randn(outputs.shape, generator=rng).double() / 5).masked_fill(~asked[..., None], torch.nan)
    else:
        y = torch.randint(n_outputs, (batch, steps), generator=rng).masked_fill(~asked, -100)
    objective, loss, right_at_end, right = Targets(within=0.2), 0.0, 0, 0.0
    for b in range(batch):
        at = [t for t in range(steps) if asked[b, t]]
        logs = outputs[b].log_softmax(-1)
        each = [((outputs[b, t] - y[b, t]) ** 2).mean() if real else -logs[t, y[b, t]] for t in at]
        hits = [all(abs(outputs[b, t] - y[b, t]) <= 0.2) if real else outputs[b, t].argmax() == y[b, t] for t in at]
        loss += sum(each).item() / len(at) / batch
        right_at_end, right = right_at_end + int(hits[-1]), right + sum(map(int, hits)) / len(at)
        answer, true = objective.answer(outputs, y)
        assert torch.equal(answer[b], outputs[b, at[-1]]) and torch.equal(true[b], y[b, at[-1]])
    outputs.requires_grad_()
    assert objective.loss(outputs, y).item() == pytest.approx(loss)
    assert [value.item() for value in objective.correct(outputs, y)] == [right_at_end, pytest.approx(right)]
    (grad,) = torch.autograd.grad(objective.loss(outputs, y), outputs)
    assert ((grad != 0).any(-1) == asked).all()  # what is not asked for does not train


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_does_not_depend_on_the_batch(tmp_path, kind) -> None:
    """However far the others in it go on, a sequence has its own loss."""
    x, y = drawn(30, 6, 3, kind)
    np.savez(tmp_path / "own.npz", x=x / 50, y=y, lengths=np.arange(30) % 6 + 1)
    loss = []
    for size in (1, 7, 30):
        found = data(tmp_path / "own.npz", n_train=10, n_val=10, n_test=10, batch_size=size)
        model = GRU(3, found.n_outputs, hidden_size=5, generator=generator(0))
        loss.append(sum(Targets().loss(model(x), y) * len(x) for x, y in found.batches("val")).item() / 10)
    assert loss == pytest.approx([loss[0]] * 3, rel=1e-5)


# ------------------------------------------------------------------------------------------------------- from the door


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_on_each_kind_of_answer(lab, runs, outputs, tmp_path, kind) -> None:
    x, y = drawn(60, 4, 3, kind)
    np.savez(tmp_path / "own.npz", x=x / 50, y=y, lengths=np.arange(60) % 4 + 1)
    common = ["data=tensors", f"data.path={tmp_path / 'own.npz'}", "trainer.max_epochs=1", "trainer.progress=false"]
    for model in ("inn", "gru"):
        assert lab(*common, f"model={model}", "n_weights=500", "R=0.5")[0] == 0
    found = runs("adhoc")
    assert list(found["state"]) == ["finished"] * 2 and set(found["source"]) == {"own.npz"}
    assert np.isfinite(found["test/loss"]).all() and found["test/acc_seq"].between(0, 1).all()
    table = pd.concat(map(pd.read_csv, outputs.glob(f"jobs/adhoc/*/files/{'confusion' if 'class' in kind else 'answers'}.csv")))
    if "class" in kind:
        assert table.drop(columns="true").to_numpy().sum() == 2 * 6
        if kind == KINDS[0]:
            assert (found["test/acc_end"] == found["test/acc_seq"]).all()  # nothing else is asked
    else:
        assert len(table) == 2 * 6 * {"a value at the end": 1, "values at the end": 3, "values at each step": 2}[kind]


def test_mistakes_are_one_line(lab, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = drawn(60, 4, 3, KINDS[0])
    np.savez("own.npz", x=x, y=y)
    for words, message in {
        "": "data.path=None: a file of your own whose name ends in .npz, .safetensors, .parquet, .parquet.gzip; e.g. ",
        "data.path=own.csv": "data.path=own.csv: a file of your own whose name ends in .npz, .safetensors, ",
        "data.path=nowhere.npz": "data.path=nowhere.npz: there is no such file; docs/data.md shows what it may hold",
        "data.path=own.npz data.n_train=50": "data.path=own.npz: it cannot be read as sequences (it has 60 sequences, and "
        "data.n_train=50, data.n_val=6, data.n_test=6 take 62; ask for fewer); docs/data.md shows what it may hold",
        "data.path=own.npz model=resnet": "model: convolutions read images, and these data are none",
    }.items():
        code, _, err = lab(*SMOKE, "data=tensors", "data.n_train=null", "data.n_val=null", "data.n_test=null", *words.split())
        assert code == 2 and message in err and len(err.strip().splitlines()) == 1


def test_other_content_is_other_data(lab, runs, tmp_path, monkeypatch) -> None:
    """Also by the digest under which MLflow names them and jobs share them: the path alone does not tell."""
    path, whole, digests = tmp_path / "own.npz", parts.build_data, []
    monkeypatch.setattr(parts, "build_data", lambda *given: digests.append((made := whole(*given))[1]) or made)
    for seed in (0, 1):
        x, y = drawn(60, 4, 3, KINDS[0], seed)
        np.savez(path, x=x, y=y)
        assert (
            lab("data=tensors", f"data.path={path}", "trainer.max_epochs=1", "trainer.progress=false", "n_weights=500")[0] == 0
        )
    assert len({*digests}) == 2 == runs("adhoc")["data.content"].nunique()


@pytest.mark.slow
def test_whatever_is_typed(ask, tmp_path) -> None:  # noqa: F811
    x, y = drawn(700, 4, 3, KINDS[0])
    np.savez(tmp_path / "own.npz", x=x, y=y)
    keys = ("data.path", "data.n_train", "data.n_val", "data.n_test", "data.batch_size", "objective.within")
    wrong = {
        f"{key}={value}": said
        for key in keys
        for value in NASTY
        if (said := ask(key, value, "data=tensors data.path=own.npz", False))
    }
    assert not wrong, "\n".join(f"{key}\n    {said}" for key, said in wrong.items())


def test_the_examples_of_the_docs(tmp_path, monkeypatch) -> None:
    """Each piece of Python writes a file, or two, and the data are read from it."""
    monkeypatch.chdir(tmp_path)
    for name in ("Train_Combined58", "Validate", "Test"):  # as Hershey's generator makes them, smaller
        rows = [{"x": [np.ones(25, np.float32)] * 11, "y": [0] * k + [1] + [0] * (9 - k) + [k]} for k in range(10)]
        pd.concat([pd.DataFrame(rows)] * 2).to_parquet(f"RandomAnomaly_{name}.parquet.gzip", compression="gzip")
    assert data("RandomAnomaly_Test.parquet.gzip").n_outputs == 10
    text, scope = DOCS.read_text(), {}
    for piece in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(piece, scope)
    written = {path.name for path in tmp_path.iterdir() if not path.name.startswith("RandomAnomaly")}
    assert written == set(re.findall(r"data\.path=(\S+\.\w+)", text)) and len(written) >= 4
    for name in written:
        found = data(name)
        x, y = next(iter(found.batches("train")))
        assert x.shape[:2] == y.shape[:2] and found.n_outputs == {"sum.npz": 1, "anomaly.parquet": 10}.get(name, 2)
