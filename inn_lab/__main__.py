"""The door: `python -m inn_lab` (or `inn-lab`, which is the same).

Its first word may be one of COMMANDS: `inn-lab figures`. All other words are Hydra's.
"""

import atexit
import copy
import dataclasses
import errno
import gc
import importlib
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

# Hydra would print its own traceback for a user's mistake; with this it hands the exception to us.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
import yaml
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from inn_lab import config, errors, explain, schema, signals
from inn_lab.config import title

if TYPE_CHECKING:
    from inn_lab.records import Outcome

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNREACHABLE = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT}
# The modules with their main(), which reads its own words, if it takes any, and the words that come before those.
COMMANDS = {
    "doctor": "inn_lab.doctor",
    "evaluate": "inn_lab.evaluate",
    "figures": "experiments.__main__",
    "new": "inn_lab.new",
    "report": "experiments.__main__ --html",
    "ui": "inn_lab.ui",
}
WORDLESS = {"doctor", "ui"}
MISTAKES = (errors.ConfigError, HydraException, OmegaConfBaseException, yaml.YAMLError)


def job(cfg: DictConfig) -> "Outcome":
    """One job; returns how it ended. The heavy imports wait until here, so that --help and tab completion are quick."""
    from inn_lab import runner

    try:
        return runner.run(cfg)
    except errors.ConfigError as error:
        stop(error)
    except (*MISTAKES, OSError) as error:
        if isinstance(error, OSError) and (error.errno in FULL or lies_in(cfg.outputs, error)):
            raise
        # The configuration was composed and checked: this one is ours, and shows its traceback.
        raise RuntimeError(f"{type(error).__name__} inside a job") from error


def lies_in(outputs: str, error: OSError) -> bool:
    """Whether it is about a file in the folder `outputs`; a full disk names none."""
    if not isinstance(error.filename, str | Path):
        return error.errno in FULL
    return Path(error.filename).resolve().is_relative_to(Path(outputs).resolve())


def check_words(words: list[str]) -> None:
    """Raises ConfigError for what Hydra says in many lines, or allows and the lab does not: a group that is null, a key that is
    taken away, several values without -m."""
    from hydra._internal.utils import get_args_parser
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]  # argparse knows no other way
    flags, rest = parser.parse_known_args(words)
    if flags.shell_completion:
        return
    if flags.package and flags.package != "_global_":
        root, _, below = flags.package.partition(".")
        if root not in (known := roots()) or (below and root != "hydra" and not explain.choices_with(flags.package)):
            part = f"; see --cfg job --package={root}" if root in known else errors.near(flags.package, known)
            raise errors.ConfigError(f"--package={flags.package}: the configuration has no such part{part}")
    if flags.experimental_rerun:
        raise errors.ConfigError(f"--experimental-rerun={flags.experimental_rerun}: give the same command again instead")
    for word in (*flags.overrides, *rest):
        if "=" not in word and not word.startswith("~"):
            flag, first = "there is no such flag; see python -m inn_lab --hydra-help", f"it comes first: inn-lab {word} …"
            raise errors.ConfigError(f"{word}: {flag if word.startswith('-') else first if word in COMMANDS else LONELY}")
        if not re.match(r"[+~]{0,2}[A-Za-z_]", word):
            raise errors.ConfigError(f"{word}: no key begins so; write KEY=VALUE, e.g. R=0.2")
    for override in OverridesParser.create().parse_overrides(flags.overrides):
        word, key = override.input_line, override.key_or_group
        if override.is_delete() and not key.startswith("hydra"):
            raise errors.ConfigError(f"{word}: nothing can be taken away, only set; {key}=… (see python -m inn_lab --help)")
        if override.is_sweep_override() and not flags.multirun:
            raise errors.ConfigError(f"{word}: several values are a sweep; add -m, or give one, or quote it: '{key}=\"…\"'")
        ours = key in explain.GROUPS
        if not ours and not key.startswith("hydra/"):
            continue  # no group
        values = override.value()
        values = values.list if isinstance(values, ChoiceSweep) else [values]
        if not all(isinstance(value, str | QuotedString | Glob) and "$" not in str(value) for value in values):
            usual = "; leave it out for the usual one"
            choices = errors.near("", (path.stem for path in explain.yamls(key))) if ours else usual
            raise errors.ConfigError(f"{word}: {key} is one of its choices{choices}")


def roots() -> list[str]:
    return ["hydra", *(field.name for field in dataclasses.fields(schema.Config))]


LONELY = "this is no KEY=VALUE; a list of values has no space after its commas, e.g. R=0.1,0.2"


def refuse(message: str) -> NoReturn:
    """Raises argparse's message, without its page of usage."""
    raise errors.ConfigError(f"{message}; see python -m inn_lab --hydra-help")


def readable(word: str) -> str:
    """A word in Hydra's grammar, which wants letters beyond ASCII in quotes. Raises ConfigError for what is no text."""
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise errors.ConfigError(f"{word!a}: it is not written in UTF-8; rename what it names") from error
    key, equals, value = word.partition("=")
    plain = equals and not word.isascii() and not re.search(r"""['"\\,(){}\[\]$=]""", value)
    return f"{key}='{value}'" if plain else word


class Threshold(Callback):
    """Hydra asks it before it makes a folder (`hydra.callbacks`). What would be made outside `outputs`, or a sweep that others
    than the lab's own would run, is a mistake."""

    passed = False  # what goes wrong before is a matter of the words that were typed

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        check_start(config)
        Threshold.passed = True

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        self.on_multirun_start(config)
        words: Any = OmegaConf.to_container(config.hydra.overrides.task)
        name = title(words) or config.hydra.runtime.choices.experiment or "adhoc"
        print(f"{name} · starting", flush=True)  # the imports take seconds


def check_start(cfg: DictConfig) -> None:
    """Ends the program if a choice, a folder, the sweeper or the launcher is not allowed. Of an exception Hydra would make a
    warning."""
    try:
        config.check_choices(cfg.hydra.runtime.choices)
        for group, known in explain.OURS.items():
            kind = group.removeprefix("hydra/")
            if not str(OmegaConf.select(cfg, f"hydra.{kind}._target_")).startswith("hydra_plugins.inn_lab_"):
                choice = cfg.hydra.runtime.choices[group]
                raise errors.ConfigError(f"{group}={choice}: it does not run the lab's sweeps{errors.near(str(choice), known)}")
        check_folders(cfg)
    except MISTAKES as error:
        stop(error)


def check_folders(cfg: DictConfig) -> None:
    """Raises ConfigError if Hydra would write outside `outputs`."""
    cfg = copy.deepcopy(cfg)
    cfg.hydra.job.num, cfg.hydra.job.id = 0, "0"
    outputs, sweep = Path(config.outputs(cfg.outputs)), Path(cfg.hydra.sweep.dir)
    places = {"hydra.run.dir": Path(cfg.hydra.run.dir), "hydra.sweep.dir": sweep}
    for key in ("hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.name", "hydra.launcher.submitit_folder"):
        places[key] = sweep / (OmegaConf.select(cfg, key) or "")
    for key, place in places.items():
        if not place.resolve().is_relative_to(outputs.resolve()):
            value = OmegaConf.select(cfg, key)
            raise errors.ConfigError(f"{key}={value}: it lies outside outputs={outputs}; leave it out, or set outputs=…")


def shows_yaml(words: list[str]) -> bool:
    """Whether this command prints the configuration: --cfg job, -c job."""
    from hydra._internal.utils import get_args_parser

    return get_args_parser().parse_known_args(words)[0].cfg is not None


@contextmanager
def in_colour() -> Iterator[None]:
    """What is printed inside is YAML, and is printed in colour."""
    from rich.console import Console
    from rich.syntax import Syntax

    with redirect_stdout(io.StringIO()) as text:
        yield
    Console().print(Syntax(text.getvalue().rstrip(), "yaml", theme="ansi_dark", background_color="default", word_wrap=True))


def stop(error: Exception) -> NoReturn:
    """Ends the program with one line."""
    print(f"inn_lab: {explain.explain(error)}", file=sys.stderr)
    sys.exit(2)


def command(name: str, *words: str) -> NoReturn:
    """Runs one of COMMANDS and ends the program with its exit code."""
    if name not in COMMANDS:
        stop(errors.ConfigError(f"{name}: this is no command and no KEY=VALUE{errors.near(name, COMMANDS)}"))
    path, *more = COMMANDS[name].split()
    module = importlib.import_module(path)
    if words and name in WORDLESS:
        if words[0] not in ("-h", "--help"):
            stop(errors.ConfigError(f"{words[0]}: {name} takes no words; INN_LAB_OUTPUTS names another folder of runs"))
        print(module.__doc__)
        sys.exit()
    sys.argv[1:2] = more
    sys.exit(module.main())


def main() -> None:
    """Runs the command that comes first, or composes the configuration and runs one job, or with -m a sweep of them.

    Exit codes: 0 done, 1 failed, 2 a user's mistake (one line says which), 128 + n stopped by signal n.
    """
    atexit.register(gc.freeze)  # or Python's last collection looks at all that was imported, for up to 2 s
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not have all letters
    if (here := os.getcwd()) not in sys.path:  # where a user's own modules are; `python -m` has it there
        sys.path.append(here)
    if sys.argv[1:] and re.fullmatch("[^-~=][^=]*", sys.argv[1]):
        command(*sys.argv[1:])
    schema.register()
    signals.listen()
    Threshold.passed = False
    try:
        # argparse takes the overrides in one piece only; users write them on both sides of -m.
        sys.argv[1:] = sorted(map(readable, sys.argv[1:]), key=lambda word: not word.startswith("-") and "=" in word)
        check_words(sys.argv[1:])
        if own := explain.folders()[1:]:
            others = any(word.startswith(("--config-dir", "-cd")) for word in sys.argv[1:])
            sys.argv[1:1] = [] if others else [f"--config-dir={own[0]}"]
        with in_colour() if sys.stdout.isatty() and shows_yaml(sys.argv[1:]) else nullcontext():
            hydra.main(config_path=str(explain.CONF), config_name="config", version_base="1.3")(job)()
    except MISTAKES as error:
        stop(error)
    except OSError as error:
        words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
        if lies_in(words.get("outputs") or os.environ.get("INN_LAB_OUTPUTS", "outputs"), error):
            ways = "make room, change the permissions, or set outputs=… (INN_LAB_OUTPUTS)"
            stop(errors.ConfigError(f"outputs cannot be written: {error}; {ways}"))
        if error.errno not in UNREACHABLE:
            raise
        stop(error)  # it names the path
    except signals.Interrupted as error:
        again = "without resume=false the same command" if "resume=false" in sys.argv else "the same command"
        print(f"inn_lab: stopped by {error}; {again} goes on from here", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if Threshold.passed:
            raise
        key = re.search(r"full_key: (\S+)", str(error))  # OmegaConf says so under what Python says
        asked, (said, *_) = key[1] if key else " ".join(sys.argv[1:]), str(error).splitlines() or [type(error).__name__]
        stop(errors.ConfigError(f"{asked}: {said}; give another value (see python -m inn_lab --help)"))


if __name__ == "__main__":
    main()
