"""Ctrl-C and SIGTERM end a run in one and the same way."""

import signal


class Interrupted(BaseException):
    """A signal asked this process to stop. Not a KeyboardInterrupt, which Lightning swallows and turns into exit code 1."""

    def __init__(self, signum: int, _frame: object = None) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


def listen() -> None:
    """From here on SIGINT and SIGTERM raise Interrupted in the main thread."""

    def stop(signum: int, frame: object) -> None:
        raise Interrupted(signum, frame)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
