"""torch's threads sleep where they wait, whichever is imported first. In processes of their own, for each sets it once."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from inn_lab import _openmp


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is torch's on Linux")
@pytest.mark.parametrize("order", ["torch, inn_lab", "inn_lab, torch"])
def test_threads_that_wait_sleep(order):
    """The processor's time after a parallel operation, while the main thread sleeps: that of a thread that spins. The least of
    ten. Spinning as by default takes 4 ms on AMD's processors, 15 on Intel's."""
    code = f"""
        import os, time
        import {order}

        def spun():
            torch.set_num_threads(2)
            x, taken = torch.ones(2**18), []
            for _ in range(10):
                x.add_(1)
                start = time.process_time()
                time.sleep(0.03)
                taken.append(time.process_time() - start)
            return min(taken)

        if child := os.fork():  # before torch has threads here, as a child could not have them after that
            assert os.waitpid(child, 0)[1] == 0
        print(spun(), flush=True)
        os._exit(0)
    """
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    seconds = [float(line) for line in done.stdout.split()]
    assert len(seconds) == 2  # in the child, and in the parent
    assert max(seconds) < 0.001


@pytest.mark.parametrize("key", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_user_says_is_left_alone(key, monkeypatch):
    for other in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(key, "a value")
    before = dict(os.environ), threading.active_count()
    _openmp.mend()
    assert (dict(os.environ), threading.active_count()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is torch's on Linux")
@pytest.mark.parametrize("path", ["/nowhere/libgomp.so.1", "libc.so.6"])
def test_a_library_that_is_not_gnu_openmp_is_left_alone(path):
    before = threading.active_count()
    _openmp._crowd(path)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_sparse_product_leaves_the_number_of_threads_alone(threads):
    """numba's threads start there, as many as there are cores."""
    code = f"""
        import torch
        from inn_lab.linear import CSR
        torch.set_num_threads({threads})
        CSR(4, 4, torch.arange(16), torch.ones(16))(torch.ones(3, 4))
        import numba
        print(torch.get_num_threads(), numba.get_num_threads())
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(threads)
    assert done.stdout.split()[1] == str(min(threads, os.cpu_count() or 1))
