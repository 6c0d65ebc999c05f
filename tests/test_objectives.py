"""Losses and accuracies against their equations, written out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inn_lab.training.objectives import Anomaly, Classification, confusion


def drawn(seed: int, batch: int, steps: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, steps, outputs, generator=g, dtype=torch.float64)
    return x, torch.randint(steps - 1, (batch,), generator=g)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(3, 9))
def test_anomaly_loss_is_the_sum_of_both_tasks(seed, batch, length):
    outputs, y = drawn(seed, batch, length + 1, length + 1)
    index = flag = 0.0
    for b in range(batch):
        logits = outputs[b, -1, :length].tolist()
        index -= math.log(math.exp(logits[y[b]]) / sum(map(math.exp, logits))) / batch  # Eq. 2.17
        for t in range(length):
            p = 1 / (1 + math.exp(-outputs[b, t, length].item()))
            flag -= math.log(p if t == y[b] else 1 - p) / (batch * length)  # Eq. 2.18
    assert Anomaly().loss(outputs, y).item() == pytest.approx(index + flag)
    assert Anomaly(flag=False).loss(outputs[..., :-1], y).item() == pytest.approx(index)
    assert Anomaly(index=False).loss(outputs, y).item() == pytest.approx(flag)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(3, 9))
def test_anomaly_accuracies(seed, batch, length):
    outputs, y = drawn(seed, batch, length + 1, length + 1)
    right_at_end = right_at_all = 0
    for b in range(batch):
        last = outputs[b, -1, :length].tolist()
        right_at_end += last.index(max(last)) == y[b]
        right_at_all += last.index(max(last)) == y[b]
        right_at_all += sum((outputs[b, t, length].item() > 0) == (t == y[b].item()) for t in range(length))
    end, seq = Anomaly().correct(outputs, y)
    assert end.item() == right_at_end  # N · ACC_end, Eq. 2.19
    assert seq.item() == pytest.approx(right_at_all / (length + 1))  # N · ACC_seq, Eq. 2.20
    assert [count.item() for count in Anomaly(flag=False).correct(outputs[..., :-1], y)] == [right_at_end] * 2


def test_only_the_outputs_that_a_task_reads_get_a_gradient():
    outputs, y = drawn(0, 4, 6, 6)
    outputs.requires_grad_()
    (grad,) = torch.autograd.grad(Anomaly().loss(outputs, y), outputs)
    read = torch.zeros_like(grad, dtype=torch.bool)
    read[:, -1, :-1] = True  # the index, at the blank step
    read[:, :-1, -1] = True  # the flag, at the images
    assert (grad[~read] == 0).all() and (grad[read] != 0).all()


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 5))
def test_classification(seed, batch, steps):
    outputs, y = drawn(seed, batch, steps, 10)
    each = [torch.nn.functional.cross_entropy(outputs[:, t], y).item() for t in range(steps)]
    assert Classification(at="last").loss(outputs, y).item() == pytest.approx(each[-1])
    assert Classification(at="all").loss(outputs, y).item() == pytest.approx(sum(each) / steps)
    right = [(outputs[:, t].argmax(-1) == y).sum().item() for t in range(steps)]
    end, seq = Classification().correct(outputs, y)
    assert end.item() == right[-1] and seq.item() == pytest.approx(sum(right) / steps)


def test_confusion_counts_true_by_predicted():
    logits = torch.eye(3)[[0, 2, 2, 1]]
    assert confusion(logits, torch.tensor([0, 1, 2, 1])).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
