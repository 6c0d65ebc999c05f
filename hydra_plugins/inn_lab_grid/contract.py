"""The contract of the lab's sweepers and its launchers, beside Hydra's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import DictConfig


@dataclass
class Foreseen:
    """The sweeper's knowledge of the jobs before they run."""

    compose: Callable[[Sequence[str]], DictConfig]  # a job's configuration, from its overrides
    axes: list[str]  # the keys that vary among them, by which they are named
    timed: bool = False  # they time the machine, and one has it for itself
    devices: set[Any] = field(default_factory=set)  # the torch.devices that they take; none where they run elsewhere
    quick: set[int] = field(default_factory=set)  # the numbers of those that take no time: undefined, or finished already


class SweepLauncher:
    """A launcher of the lab's sweeps is one of these, and Hydra's `Launcher`.

    Its jobs' results are `inn_lab.records.Outcome`s, of jobs that died too. A search launches some jobs at a time, which are
    numbered from `initial_job_idx` on.
    """

    elsewhere: ClassVar[bool] = False  # whether the jobs run on other machines: this one may lack their devices and images
    foreseen: Foreseen  # there before `launch`
