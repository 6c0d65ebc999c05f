"""What a configuration may say: ranges, and studies for the models and data that they take."""

import math

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from inn_lab import schema
from inn_lab.config import check
from inn_lab.data import CLASSIFICATION
from inn_lab.errors import ConfigError
from inn_lab.explain import CONF
from inn_lab.training.pruning import TARGETS

STILL = "data=mnist_classification"


def composed(words: str) -> DictConfig:
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", ["source=digits", "scale=smoke", *words.split()])


OUT_OF_RANGE = {
    "": {
        "lr": [0, math.inf],
        "data.n_train": [0],
        "data.n_val": [-1],
        "data.n_test": [0],
        "data.batch_size": [0],
        "data.seq_len": [2],
        "source.image_size": [7],
        "source.mean": [math.nan],
        "source.std": [0, math.inf, math.nan],
        "model.R": [0, 2],
        "trainer.max_epochs": [0],
        "trainer.max_time": [0, 1e15, math.inf],
        "trainer.checkpoint_s": [-1, math.nan],
        "trainer.gradient_clip_val": [-1, 0, math.inf],
        "trainer.accelerator": ["tpu"],
        "trainer.cuda_graph": [True, "always"],
        "scale.weights": [0],
    },
    STILL: {"data.iterations": [0], "data.transforms": ["shear"], "objective.at": ["first"]},
    "data=reber": {"objective.readout": ["start"], "data.n_test": [0]},
    "data=sine": {"data.cycles": [0, math.inf], "data.n_val": [0], "objective.within": [0, math.nan]},
    "model=represented": {"model.R": [2]},
    "pruning=magnitude": {
        "pruning.amount": [-0.1, 1.5, math.nan],
        "pruning.target": ["all"],
        "pruning.scope": ["local"],
        "pruning.epochs": [-1],
    },
    f"study=probe_iterations {STILL}": {"study.iterations": [1]},
    "experiment=dataset_gallery": {"study.examples": [0]},
    "experiment=sru_equivalence": {
        "study.sizes": [[], [2, 0]],
        "study.counts": [[], [-1]],
        "study.steps": [1],
        "study.sequences": [0],
    },
    "experiment=matmul_speed": {"study.R": [None, 2], "study.depth": [None, 0], "study.columns": [-1]},
}


@pytest.mark.parametrize("words", OUT_OF_RANGE)
def test_a_value_out_of_its_range_is_one_line(words):
    cfg = composed(words)
    check(cfg.copy())
    for key, values in OUT_OF_RANGE[words].items():
        for value in values:
            wrong = cfg.copy()
            OmegaConf.update(wrong, key, value)
            with pytest.raises(ConfigError) as caught:
                check(wrong)
            said = str(caught.value)
            assert said.startswith(f"{key}={OmegaConf.select(wrong, key)}: ") and "\n" not in said
            if "; e.g. " in said:  # the example is allowed
                check(OmegaConf.merge(cfg, OmegaConf.from_dotlist([said.partition("; e.g. ")[2]])))


@pytest.mark.parametrize(
    "words, key, known",
    [(STILL, "data.transforms", CLASSIFICATION), ("pruning=magnitude", "pruning.target", TARGETS)],
)
def test_what_is_there_to_choose_is_allowed(words, key, known):
    for value in known:
        check(composed(f"{words} {key}={value}"))


@pytest.mark.parametrize(
    "words, message",
    [
        ("data.flag=false", "data.flag=False: it follows objective.flag=True; set that one"),
        (f"{STILL} study=probe_iterations model=mlp", "study=probe_iterations: this model is not iterated; take model=inn"),
        ("study=probe_iterations data=random_anomaly", "study=probe_iterations: iterating on takes a still image"),
        ("study=probe_iterations data=sine", "study=probe_iterations: iterating on takes a still image"),
        ("study=probe_settling", "study=probe_settling: it distorts still images; take data=mnist_classification"),
        (f"{STILL} study=count_flops", "study=count_flops: it counts torch's own operations"),
        ("study=gallery data=reber", "study=gallery: these data are no images"),
        ("study=strings", "study=strings: these data are no strings; take data=reber"),
        ("experiment=dataset_gallery study=train", "study=train: it works on a model, and there is none; take another study"),
        ("experiment=dataset_gallery study=time_step", "study=time_step: it works on a model, and there is none"),
        ("experiment=matmul_speed study=probe_settling", "study=probe_settling: it works on a model, and there is none"),
        ("study=prune", "study=prune: there is nothing to cut; add pruning=magnitude"),
        ("pruning=magnitude study=train", "study=train: it cuts nothing; leave study out"),
        ("pruning=magnitude trainer.max_time=5", "trainer.max_time=5.0: pruning trains for epochs"),
    ],
)
def test_parts_that_do_not_go_together(words, message):
    with pytest.raises(ConfigError) as caught:
        check(composed(words))
    assert str(caught.value).startswith(message)
