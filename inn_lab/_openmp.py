"""Keeps the threads of GNU OpenMP from spinning where they wait. Imported for its effect, before torch or after it.

torch and numba each have threads of their own on the same cores. By default those of GNU OpenMP spin for milliseconds where
they wait, and with two jobs on two cores a step of 10 ms then takes 300 (`python -m benchmarks.thread_speed`). Where the
environment says how they shall wait (GOMP_SPINCOUNT or OMP_WAIT_POLICY), nothing is done.
"""

import os
import sys

TURNS = 1000  # of the loop in which a thread waits, before it sleeps: microseconds. By default 300,000


def mend() -> None:
    """Says so in the environment, which GNU OpenMP reads when it is loaded (torch loads it), and to each that is loaded."""
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ["GOMP_SPINCOUNT"] = str(TURNS)
    if sys.platform == "linux":
        with open("/proc/self/maps") as maps:
            loaded = {line.split(maxsplit=5)[5].strip() for line in maps if "/libgomp" in line}
        for path in loaded:
            _crowd(path)


def _crowd(path: str) -> None:
    """Makes a GNU OpenMP that is loaded manage more threads than there are cores: then it spins for 1,000 turns only.

    It has no call for that, and does it by itself where many wait (do_spin in its wait.h). Its threads count for as long as the
    thread lives that they once worked for; all of them sleep. A forked process has the count, and none of the threads.
    """
    import ctypes
    import threading

    try:
        library = ctypes.CDLL(path, os.RTLD_NOLOAD)
        parallel, nothing = library.GOMP_parallel, ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p)
    except (OSError, AttributeError):  # it is not what its name says
        return
    counted = threading.Event()

    def stay() -> None:
        parallel(nothing, None, len(os.sched_getaffinity(0)) + 1, 0)
        counted.set()
        threading.Event().wait()

    threading.Thread(target=stay, name="openmp", daemon=True).start()
    counted.wait()


mend()
