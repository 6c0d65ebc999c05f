"""Whatever is given to a key at the door: the job is built, or one line says which key it is and what to do."""

import random
import time

import pytest
from conftest import SMOKE
from hydra import compose, initialize_config_dir

from hydra_plugins.inn_lab_grid import sweeper
from inn_lab import parts, schema
from inn_lab.config import flat
from inn_lab.explain import CONF

SMALL = "n_weights=200000"  # at scale=smoke 8,000 weights, which every model can have
STILL = "data=mnist_classification"
BASES = [  # between them they have every key
    *(f"{SMALL} {STILL} model={path.stem}" for path in sorted((CONF / "model").glob("*.yaml"))),
    *(f"{SMALL} data={path.stem}" for path in sorted((CONF / "data").glob("*.yaml"))),
    *(f"{SMALL} {words}" for words in ("pruning=magnitude", "study=time_step", f"study=probe_iterations {STILL}")),
    *(f"{SMALL} {words}" for words in ("optimizer=sgd", "schedule=cosine", "schedule=step")),
    *(f"{SMALL} pruning={words}" for words in ("set pruning.every=2", "gradual pruning.every=2")),
    *(f"{SMALL} pruning={name}" for name in ("iterative", "snip", "synflow")),
    *(f"experiment={name}" for name in ("matmul_speed", "sru_equivalence", "dataset_gallery")),
]
NASTY = [
    *("", "null", "???", "${nope}", "${", "abc", "true", "ü", "a=b", "'a b'", "1,2", "[]", "[1]", "[a]", "{a:1}"),
    *("-1", "0", "0.5", "1e-12", "1e-320", "999999999999", "1e308", "nan", "inf", "1" + "0" * 400),
    *("/dev/zero", "/dev/null", "os.getcwd", "inn_lab.data.Sine", "inn_lab.models.LSTM"),
]


def keys(bases: list[str]) -> dict[str, str]:
    """Each key, and words of a job that has it; new keys come in by themselves."""
    schema.register()
    found: dict[str, str] = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for base in bases:
            for key in flat(compose("config", [*SMOKE, *base.split()])):
                found.setdefault(key, base)
    return found


@pytest.fixture
def ask(lab, outputs, tmp_path, monkeypatch):
    """`ask(key, value, base, sweep)`: what is wrong with the answer to a job, or to a sweep of two; None if nothing is."""

    def alone(done):
        def only(*given):
            done(*given)
            raise SystemExit(0)

        return only

    monkeypatch.setattr(parts, "build", alone(parts.build))
    monkeypatch.chdir(tmp_path)  # outputs=abc is a folder here
    assert lab(*SMOKE, *SMALL.split())[0] == 0  # and what is imported once is there, Hydra's plugins among it
    monkeypatch.setattr(sweeper.GridSweeper, "record", alone(lambda self: None))

    def ask(key: str, value: str, base: str, sweep: bool) -> str | None:
        words = [*SMOKE, *(word for word in base.split() if not word.startswith(f"{key}=")), f"{key}={value}"]
        words += ["-m", "lr=1e-3,1e-4" if key == "seed" else "seed=0,1"] * sweep
        start = time.process_time()  # other work on the machine is not the lab's
        try:
            code, _, err = lab(*words)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        lines, took = err.splitlines(), time.process_time() - start
        if took > 5:
            return f"{took:.0f} s"
        if (outputs / "mlflow.db").exists() or (outputs / "jobs").exists():
            return "something was run"
        if code == 0 and not lines:
            return None
        one_a_job = len(lines) == 1 or (sweep and all(line.startswith("  job ") for line in lines[1:]))
        if code != 2 or not one_a_job or not lines[0].startswith("inn_lab: ") or "Traceback" in err:
            return f"exit code {code}: {err}"
        if key.rpartition(".")[2] not in lines[-1] or not any(way in lines[-1] for way in ("; ", "e.g.", ": give ", ": set ")):
            return lines[-1]
        return None

    return ask


def test_some_of_what_can_be_typed(ask):
    rng, known = random.Random(0), keys([*BASES[:1], "experiment=matmul_speed"])
    for key in rng.sample(sorted(known), 6):
        value, sweep = rng.choice(NASTY), rng.random() < 0.5
        assert not (wrong := ask(key, value, known[key], sweep)), f"{known[key]} {key}={value}{' -m' * sweep}: {wrong}"


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [False, True])
def test_all_of_it(ask, sweep):
    known = keys(BASES)
    groups = [path for path in CONF.glob("*/*.yaml") if path.parent.name != "experiment"]
    lines = [line.split(":")[0].strip() for path in groups for line in path.read_text().splitlines() if ": " in line]
    names = {name for name in lines if name.isidentifier()} - {"defaults", *(path.parent.name for path in groups), "objective"}
    assert names <= {part for key in known for part in key.split(".")}  # a key that no base has wants one
    asked = ((key, value, base) for key, base in known.items() for value in NASTY)
    wrong = {f"{base} {key}={value}": said for key, value, base in asked if (said := ask(key, value, base, sweep))}
    assert not wrong, f"{len(wrong)} of {len(known) * len(NASTY)}:\n" + "\n".join(f"{k}\n    {v}" for k, v in wrong.items())
