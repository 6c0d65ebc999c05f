"""Train, and count what it costs: floating-point operations, whatever the machine."""

from inn_lab.config import Terms
from inn_lab.models import ResNet
from inn_lab.studies import ModelJob
from inn_lab.studies.train import train

OTHERS = "it counts torch's own operations, which only residual networks use; take model=resnet or model=wormhole"


@Terms(model=(ResNet, OTHERS))
def count_flops(job: ModelJob) -> str:
    """Trains as `train` does, and logs by epoch `train/flops`: of a training example, forward and backward.

    Counted are convolutions and matrix products, two operations for each multiply-add, as they are executed: of a stage that is
    iterated, all its iterations; products by kernels of the lab's own would not be seen. Counting makes a small network about a
    quarter slower.
    """
    from inn_lab.training.flops import CountFlops

    return train(job, CountFlops(job.data.sizes["train"]))
