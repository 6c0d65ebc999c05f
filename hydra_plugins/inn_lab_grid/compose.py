"""The configurations of a sweep's jobs: Hydra composes once for each set of choices, plain values are set in a copy."""

import pickle
from collections.abc import Sequence

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """`composer(overrides)` is `config_loader.load_sweep_config(config, overrides)`, in a hundredth of the time.

    Reading and merging a score of YAML files takes most of it, and the jobs of a sweep mostly differ in plain values. What is
    no choice of a group's and no plain `key=value`, or cannot be set, Hydra composes, or explains.
    """

    def __init__(self, config_loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = config_loader, config
        self._parser = OverridesParser.create(config_loader=config_loader)
        self._composed: dict[tuple[str, ...], bytes] = {}  # pickled, of which a copy is quickest made

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        words = list(overrides)
        try:
            parsed = self._parser.parse_overrides(words)
            if not all(map(plain, parsed)):
                return self._loader.load_sweep_config(self._config, words)
            choices = [override for override in parsed if self.is_choice(override)]
            config = self._copy(tuple(str(override.input_line) for override in choices))
            for override in parsed:
                if override not in choices:
                    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except (HydraException, OmegaConfBaseException):
            return self._loader.load_sweep_config(self._config, words)  # which says what is wrong, and where
        config.hydra.overrides.task = words
        look = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(parsed, look.exclude_keys, look.item_sep, look.kv_sep)
        return config

    def _copy(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._composed:
            self._composed[choices] = pickle.dumps(self._loader.load_sweep_config(self._config, list(choices)))
        return pickle.loads(self._composed[choices])

    def is_choice(self, override: Override) -> bool:
        """Whether it chooses one of a group."""
        repository = self._loader.repository  # type: ignore[attr-defined]  # Hydra's only loader has one
        return repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)


def plain(override: Override) -> bool:
    """Whether it is `key=value` or `group=choice`, and about the job, not about how Hydra runs it."""
    ours = not override.is_hydra_override() and override.package is None
    return ours and override.type is OverrideType.CHANGE and not override.is_sweep_override()
