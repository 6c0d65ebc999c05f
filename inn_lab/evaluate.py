"""`inn-lab evaluate RUN [KEY=VALUE …]`: tests a trained network again, on its own data or on others."""

import sys
from collections.abc import Sequence

USAGE = "inn-lab evaluate RUN [KEY=VALUE …], e.g. inn-lab evaluate 3f2a9c data.n_test=1000 seed=1"


def main(words: Sequence[str] | None = None) -> int:
    """Prints what a run's network scores on the test data. Returns the exit code: 0, or 2 for a mistake, which a line explains.

    words: the run, as `load` takes it, and what is set otherwise than in its configuration, as on the lab's command line; by
        default the command's own.
    """
    from inn_lab import config, loading
    from inn_lab.errors import ConfigError
    from inn_lab.identity import code, short

    words = sys.argv[1:] if words is None else words
    if words and words[0] in ("-h", "--help"):
        print(f"{__doc__}\n\n{USAGE}")
        return 0
    try:
        if not words or "=" in words[0] or words[0].startswith("-"):
            raise ConfigError(f"name a run: {USAGE}")
        run, *rest = words
        outputs = dict(word.partition("=")[::2] for word in rest).get("outputs")
        loaded = loading.load(run, outputs).on(*rest)
        found = loaded.evaluate()
    except ConfigError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # the data that are drawn are kept there
        print(f"evaluate: {error}; make room, change the permissions, or set outputs=… (INN_LAB_OUTPUTS)", file=sys.stderr)
        return 2
    cfg, about = loaded.cfg, loaded.about
    other = "" if about.code == code(cfg).digest else "other code, "
    name = cfg.model._target_.rpartition(".")[2]
    print(f"{name} of {about.experiment}, job {about.identity}, trained by {other}{short(about.commit)}")
    print(f"tested on {loaded.data.sizes['test']} examples, {config.source(cfg)}, seed {cfg.seed}, {loaded.device}")
    for key, value in found.items():
        print(f"  {key:14} {value:.6g}")
    return 0
