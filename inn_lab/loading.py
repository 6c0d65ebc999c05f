"""A trained network again: from the file of its weights to a model that can be tested, trained and pruned."""

import copy
import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from inn_lab import config, parts, schema, seeding, tracking, weights
from inn_lab.errors import ConfigError
from inn_lab.explain import CONF, explain
from inn_lab.identity import LATER, NOT_SCIENCE, short
from inn_lab.models.base import Model
from inn_lab.ranges import arguments
from inn_lab.training.objectives import Objective
from inn_lab.weights import About

FREE = ("data", "source", "objective", "trainer", "seed", "outputs")  # what does not say what the network is


@dataclass(frozen=True)
class Loaded:
    """A trained network, ready to be tested, pruned or trained on.

    model: as it was when its run ended, on `device`, in torch's mode for tests. cfg: the configuration of its run, but for
    where and on what it runs. about: what the file of its weights says of the run.
    """

    model: Model
    cfg: DictConfig
    about: About

    def on(self, *words: str) -> "Loaded":
        """The same network with other data: `on("data.n_test=1000", "seed=1")`. words: as on the command line.

        Raises ConfigError for what a command would refuse, and for a key that says what the network is.
        """
        return replace(self, cfg=changed(self.cfg, words))

    @property
    def device(self) -> torch.device:
        """The device that `cfg` names. Raises ConfigError if this machine has none such."""
        return parts.pick_device(self.cfg.trainer)

    @functools.cached_property
    def data(self) -> Any:
        """The data that `cfg` defines. They are drawn or read when they are asked for. Raises ConfigError where they cannot be
        made, and where they do not fit the model."""
        with seeding.aside(self.cfg.seed, "data"):
            data, _ = parts.build_data(self.cfg, self.device)
        for what, there, wanted in (
            ("inputs", data.n_inputs, self.about.n_inputs),
            ("outputs", data.n_outputs, self.about.n_outputs),
        ):
            if there != wanted:
                raise ConfigError(f"data: they have {there} {what}, and the model was trained for {wanted}; give other data")
        return data

    @functools.cached_property
    def objective(self) -> Objective:
        return parts.part_of(self.cfg, "objective")()

    def evaluate(self) -> dict[str, float]:
        """The test of a run: test/loss, test/acc_end, test/acc_seq, and what the model tells of itself.

        On the machine and device of the run these are its own numbers, bit for bit.
        """
        from inn_lab.studies.train import lightning, quiet  # they bring Lightning, which takes seconds
        from inn_lab.training.module import Training

        module = Training(self.model, self.data, self.objective)
        with quiet():
            (found,) = lightning(self.device, logger=None).test(module, verbose=False)
        self.model.to(self.device)  # Lightning leaves it on the CPU
        return dict(found)


def load(run: str | Path, outputs: str | Path | None = None, **values: object) -> Loaded:
    """Loads the network that a finished run has kept.

        load("outputs/jobs/adhoc/0123456789ab")         load("adhoc", R=0.2, seed=0)
        load("weights.safetensors")                     load("3f2a9c")

    Args:
        run: a file of weights, the folder of a run's record, the id of a run in MLflow or its beginning, or the name of an
            experiment.
        outputs: the folder with the runs; by default `config.outputs()`.
        values: of the experiment's runs, the params and tags that the run has; `**{"model.init": "normal"}` for one with a dot.

    Raises ConfigError unless one run is meant, for a run that has kept no weights, and for a network that cannot be built here.
    """
    outputs = config.outputs(None if outputs is None else str(outputs))
    state, about = weights.read(tracking.weights_of(run, outputs, values))
    cfg = config_of(about, outputs)
    device = parts.pick_device(cfg.trainer)
    sizes = SimpleNamespace(
        n_inputs=about.n_inputs, n_outputs=about.n_outputs, image=None if about.image is None else tuple(about.image)
    )
    with seeding.aside(cfg.seed, "model"):
        model = parts.maker(cfg, sizes, device)(generator=seeding.generator(cfg.seed, "model"))
    try:
        weights.fill(model, state)
    except ConfigError as error:
        raise ConfigError(f"{run}: {error}; {_made_by(about)}") from error
    return Loaded(model.to(device).eval(), cfg, about)


def config_of(about: About, outputs: str) -> DictConfig:
    """The configuration of the run that a file of weights is of, checked against the present schema.

    Where and on what it runs is as a command would have it here. A key that came later has the value that was in effect before.
    Raises ConfigError for a file of another lab, whose keys this one does not know.
    """
    schema.register()
    cfg: Any = OmegaConf.structured(schema.Config)
    try:
        for group, values in about.config.items():
            if isinstance(values, dict):
                known = schema.SCHEMAS.get(f"{group}_schema")
                own = known and "_target_" not in values  # its keys are not those of what it names
                cfg[group] = OmegaConf.structured(known) if own else {}
        cfg = OmegaConf.merge(cfg, about.config)
        for key, value in LATER.items():
            group, _, name = key.rpartition(".")
            if group and group not in about.config:  # the whole group came later
                OmegaConf.update(cfg, f"{group}", {name: value}, merge=not OmegaConf.is_missing(cfg, group))
        for key, value in LATER.items():
            group, _, name = key.rpartition(".")
            made = config.named(cfg, group) if group in config.BUILT else None
            if made and name in (arguments(made) or ()) and name not in cfg[group]:
                cfg[group][name] = value
        with initialize_config_dir(str(CONF), version_base="1.3"):
            here = compose("config")
        for key in OmegaConf.missing_keys(cfg):
            if key not in LATER and key not in NOT_SCIENCE:
                raise ConfigError(f"{key}: it has no value in this file")
            OmegaConf.update(cfg, key, LATER[key] if key in LATER else OmegaConf.select(here, key))
        cfg.outputs = outputs
        config.check(cfg)
    except (ConfigError, OmegaConfBaseException) as error:
        raise ConfigError(f"{explain(error)}; {_made_by(about)}") from error
    return cfg


def changed(cfg: DictConfig, words: Iterable[str]) -> DictConfig:
    """A configuration with what these words of a command set, of `FREE` alone.

    With another choice of `data` the objective is that of these data; with another `source` the images have the same size.

    Raises ConfigError for a word that cannot be read, a key or choice that there is not, and a value that is not allowed.
    """
    cfg = copy.deepcopy(cfg)
    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
        for override in sorted(overrides, key=lambda override: "." in override.key_or_group):  # choices first
            word, key = str(override.input_line), override.key_or_group
            if override.is_add() or override.is_delete() or override.is_sweep_override():
                raise ConfigError(f"{word}: give a key one value, KEY=VALUE")
            if key.partition(".")[0] not in FREE:
                raise ConfigError(f"{word}: the weights say what the network is; {', '.join(FREE)} can be set")
            if (CONF / key).is_dir():
                _choose(cfg, key, word)
            elif OmegaConf.is_dict(OmegaConf.select(cfg, key)):
                raise ConfigError(f"{word}: it has no choices; set one of its keys, {key}.KEY=VALUE")
            else:
                OmegaConf.update(cfg, key, override.value())
        config.check(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error)) from error
    return cfg


def _choose(cfg: DictConfig, group: str, word: str) -> None:
    """Sets `data` with its objective, `source`, or the accelerator of `trainer`, as a choice has them."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = compose("config", [f"seq_len={cfg.seq_len}", f"scale={cfg.scale.name}", word])
    OmegaConf.resolve(chosen)
    if group == "data":
        cfg.data, cfg.objective = chosen.data, chosen.objective
    elif group == "source":
        chosen.source.image_size = cfg.source.image_size
        cfg.source = chosen.source
    else:
        cfg.trainer.accelerator = chosen.trainer.accelerator


def _made_by(about: About) -> str:
    return f"the weights are of inn_lab {about.lab}, commit {short(about.commit)}"
