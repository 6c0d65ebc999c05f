"""What `test_cuda.py` asks of a GPU, asked of a device that is none (`far.py`), for machines that have no GPU."""

import pytest
import test_cuda
from far import takes_the_gpus_place

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch):
    takes_the_gpus_place(monkeypatch)


for name, test in vars(test_cuda).items():
    if name.startswith("test_"):
        globals()[name] = test
