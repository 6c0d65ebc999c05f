"""The exceptions for a user's mistake, and suggestions of what was meant."""

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """A user's mistake. Its text is one line: which key, what it was, what is allowed, what to do."""


class NotHere(ConfigError):
    """This machine lacks something that a job needs: a device, memory, images. Another may have it, or this one tomorrow."""


def near(name: str, known: Iterable[str]) -> str:
    """'; did you mean A or B?' for the known names nearest to `name`, or all of them where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are: {', '.join(known)}"
