"""Claims of a source: whether the runs support them, and why a claim is not judged."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pandas as pd
from omegaconf import OmegaConf

from experiments.report import provenance, trained
from experiments.verdicts import Finding

# Reasons not to judge what was measured.
OTHER_SCALE, OTHER_DATA, OTHER_SETTING, SHORT = "other scale", "other data", "other setting", "cut short"
# Less may show less. Fewer validation or test examples only widen the interval.
LENGTHS = ("trainer.max_epochs", "trainer.max_time", "trainer.patience", "data.n_train")
# The data from which each source's networks learn.
THEIRS = {"H": {"mnist"}, "K": {"mnist"}, "D": {"reber"}, "T": {"mnist", "cifar10", "sine"}, "Mocanu": {"mnist"}}
THEIRS["this"] = set().union(*THEIRS.values())  # "this lab": the same images and strings


@dataclass(frozen=True)
class Claim:
    """A sentence of a source, and how to measure it: `measure(runs, **tables)` returns a `Finding`.

    images: whether it depends on the images or strings. The cost of a step does not; what is learnt does.
    epochs: the epochs after which it can be judged, if that is before the end of the source's runs.
    setting: the setting for which the sentence is judged: a column and the source's value, or None if the source gives none. It
        is printed with the sentence.
    """

    source: str
    sentence: str
    measure: Callable[..., Finding]
    images: bool = True
    epochs: int | None = None
    setting: Mapping[str, object] = field(default_factory=dict)

    def said(self, runs: pd.DataFrame) -> str:
        """The sentence, and the setting for which it is judged."""
        values = {key: sorted(runs[key].dropna().unique()) if value is None else [value] for key, value in self.setting.items()}
        return self.sentence + "".join(f", {key}={', '.join(f'{v:g}' for v in found)}" for key, found in values.items())


def judge(measured: str, holds: bool | None) -> Finding:
    """A finding without chance: an identity, a count, a fact of the construction.

    `holds` is None if the necessary runs are missing.
    """
    return Finding(measured, 1, 1) if holds is None else Finding(measured, if_false=1 - bool(holds), if_true=bool(holds))


def paper(name: str) -> dict[str, object]:
    """The `LENGTHS` of the source's own runs, from the experiment's YAML."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from inn_lab import explain, schema

    schema.register()
    lab, *own = explain.folders()
    words = [f"experiment={name}", f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in own)}]"]
    sweeps, GlobalHydra.instance().hydra = (
        GlobalHydra.instance().hydra,
        None,
    )  # Hydra allows one; a sweep's end is inside another
    try:
        with initialize_config_dir(str(lab), version_base="1.3"):
            cfg = compose("config", words)
    finally:
        GlobalHydra.instance().hydra = sweeps
    return {key: OmegaConf.select(cfg, key) for key in LENGTHS}


def unlike(claim: Claim, runs: pd.DataFrame, asked: Mapping[str, object]) -> str | None:
    """Why these runs cannot judge a claim, whatever they measured; None if they can.

    A verdict needs `scale=paper`, the claim's setting, and runs that are at least as long as `asked`. If the claim depends on
    the data, it also needs the data of its source (`THEIRS`); a claim of another, such as the user's own, is for any data.
    """
    if set(runs["scale"].unique()) != {"paper"}:
        return OTHER_SCALE
    if any(value is not None and set(runs[key].dropna().unique()) != {value} for key, value in claim.setting.items()):
        return OTHER_SETTING
    if not claim.images:
        return None
    sources = set(runs["source"].unique())
    theirs = THEIRS.get(claim.source.split()[0])
    if len(sources) != 1 or (theirs is not None and not sources <= theirs):
        return OTHER_DATA
    least = {**asked, **({"trainer.max_epochs": claim.epochs} if claim.epochs else {})}
    keys = [key for key, value in least.items() if value is not None and key in runs]
    stopped = "stopped/epoch" in runs and "trainer.max_epochs" in keys and asked.get("trainer.patience") is None
    done = trained(runs[["state", *keys, *["stopped/epoch"] * stopped]])
    if stopped:  # early, and the source's own runs are not
        done = done.assign(**{"trainer.max_epochs": done["trainer.max_epochs"].clip(upper=done["stopped/epoch"] + 1)})
    short = any(done[key].min() < least[key] for key in keys)
    return SHORT if short else None


def claims_table(
    claims: Iterable[Claim], runs: pd.DataFrame, asked: Mapping[str, object] = MappingProxyType({}), **tables: pd.DataFrame
) -> pd.DataFrame:
    """A row for each claim: what was measured, and the verdict or why there is none. `asked`: see `paper`."""
    rows = []
    for claim in claims:
        found = claim.measure(runs, **tables)
        rows.append((claim.source, claim.said(runs), found.measured, unlike(claim, runs, asked) or found.verdict))
    table = pd.DataFrame(rows, columns=["source", "sentence", "measured", "verdict"])
    return table.assign(measured_on=provenance(runs))
