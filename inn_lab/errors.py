"""The exceptions for a user's mistake, and suggestions of what was meant."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class ConfigError(Exception):
    """A user's mistake. Its text is one line: which key, what it was, what is allowed, what to do."""


class NotHere(ConfigError):
    """This machine lacks something that a job needs: a device, memory, images. Another may have it, or this one tomorrow."""


def near(name: str, known: Iterable[str]) -> str:
    """'; did you mean A or B?' for the known names nearest to `name`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are: {', '.join(known)}"


@contextmanager
def reading(path: str, kind: str, wanted: str) -> Iterator[Path]:
    """Inside, the file at `path` is read as a `kind`. Whatever goes wrong there is a ConfigError that says what is `wanted`."""
    try:
        if (file := Path(path).expanduser()).exists() and not file.is_file():
            raise OSError("it is a folder or a device")
        yield file
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"path={path}: there is no such file; {wanted}") from None
    except Exception as error:  # a folder, no table, half an archive, nobody's home: almost any error
        why = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"path={path}: it cannot be read as {kind} ({why}); {wanted}") from error
