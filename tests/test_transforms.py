"""The batched transforms against torchvision's, image by image, and against torchvision's ranges."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inn_lab import _torchvision  # noqa: F401
from inn_lab.data import transforms as ours

from torchvision import transforms as theirs  # isort: skip
from torchvision.transforms import functional as reference  # isort: skip
from torchvision.transforms import v2  # isort: skip

SIZE = 50
CORNERS = [[0, 0], [SIZE - 1, 0], [SIZE - 1, SIZE - 1], [0, SIZE - 1]]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """White noise: the pictures that are hardest to interpolate alike."""
    return torch.rand(n, size, size, generator=rng(seed))


def one_by_one(function, x: torch.Tensor, *parameters) -> torch.Tensor:
    return torch.stack([function(image[None], *(p[i] for p in parameters))[0] for i, image in enumerate(x)])


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest distance between two samples' distribution functions (Kolmogorov and Smirnov)."""
    a, b = a.double().sort().values, b.double().sort().values
    at = torch.cat([a, b])
    share = [torch.searchsorted(s, at, right=True) / len(s) for s in (a, b)]
    return float((share[0] - share[1]).abs().max())


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the gap is what two samples of one distribution show in 999 of 1000 cases."""
    return gap(a, b) < 1.95 * math.sqrt((len(a) + len(b)) / (len(a) * len(b)))


# --- applied: equal to torchvision under the same parameters


@pytest.mark.parametrize(("h", "size"), [(28, 50), (8, 50), (28, 14), (50, 50)])
def test_resize(h, size):
    x = images(4, h)
    torch.testing.assert_close(ours.resize(x, size), reference.resize(x[:, None], [size, size], antialias=True)[:, 0])


def test_normalise():
    x = images(3)
    torch.testing.assert_close(ours.normalise(x, 0.1307, 0.3081), reference.normalize(x[:, None], [0.1307], [0.3081])[:, 0])
    out = torch.empty_like(x)
    ours.normalise(x, 0.1307, 0.3081, out=out)
    assert torch.equal(out, ours.normalise(x, 0.1307, 0.3081))


@pytest.mark.parametrize("scale", [(0.1, 0.2), (0.02, 0.05)])
def test_erase(scale):
    x = images(40)
    boxes = ours.draw_erase(40, SIZE, rng(), scale)
    expected = one_by_one(lambda image, box: reference.erase(image, *box.tolist(), v=torch.tensor(0.0)), x, boxes)
    assert torch.equal(ours.erase(x, boxes), expected)
    assert (expected != x).flatten(1).any(1).all()


def their_perspective(image, endpoints):
    return reference.perspective(image, CORNERS, endpoints.tolist(), fill=[0.0])


def test_perspective():
    x = images(80)
    endpoints = ours.draw_perspective(80, SIZE, rng(), 0.5)
    torch.testing.assert_close(ours.perspective(x, endpoints), one_by_one(their_perspective, x, endpoints), atol=1e-4, rtol=0)


def test_strong_perspective():
    """At 0.9 some images have their horizon inside: torchvision's single precision is worth less there, and NaN on the
    horizon."""
    x = images(250)
    endpoints = ours.draw_perspective(250, SIZE, rng(), 0.9)
    exists = ours.homographies(endpoints, SIZE, SIZE).isfinite().all(dim=2).all(dim=1)
    expected = one_by_one(their_perspective, x, endpoints)[exists]
    error = (ours.perspective(x, endpoints)[exists] - expected)[expected.isfinite()].abs()
    assert exists.float().mean() > 0.99
    assert error.max() < 2e-3
    assert (error > 1e-4).float().mean() < 1e-4


def test_perspective_of_an_oblong_image():
    x = torch.rand(1, 20, 30, generator=rng())
    corners, endpoints = [[0, 0], [29, 0], [29, 19], [0, 19]], torch.tensor([[[3, 2], [25, 1], [28, 17], [2, 16]]])
    expected = reference.perspective(x, corners, endpoints[0].tolist(), fill=[0.0])
    torch.testing.assert_close(ours.perspective(x, endpoints), expected, atol=1e-4, rtol=0)


def by_torch(function, *args):
    """As on a device that has no kernels."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ours, "compiled", lambda name, x: None)
        return function(*args)


@given(st.integers(0, 10**6), st.sampled_from([(5, 7), (9, 9), (50, 50), (12, 31)]), st.sampled_from([0.3, 0.5, 0.9]))
@settings(deadline=None, max_examples=60)
def test_the_kernels_are_torchs_operations(seed, shape, distortion):
    """But for rounding, which the horizon enlarges: near it neighbouring pixels come from places that are far apart."""
    x = torch.rand(20, *shape, generator=rng(seed))
    boxes = ours.draw_erase(20, min(shape), rng(seed), (0.1, 0.6))
    assert torch.equal(ours.erase(x, boxes), by_torch(ours.erase, x, boxes)) and not torch.equal(ours.erase(x, boxes), x)
    endpoints = ours.draw_perspective(20, min(shape), rng(seed), distortion)
    error = (ours.perspective(x, endpoints) - by_torch(ours.perspective, x, endpoints)).abs()
    assert error.max() < 2e-3 and error.mean() < 1e-6


@pytest.mark.parametrize("x", [images(3).mT, images(3).double(), images(3).requires_grad_(), images(3)[:0], images(6)[::2]])
def test_images_of_any_layout_and_dtype(x):
    boxes, endpoints = ours.draw_erase(len(x), SIZE, rng(), (0.1, 0.2)), ours.draw_perspective(len(x), SIZE, rng(), 0.5)
    for function, drawn in ((ours.erase, boxes), (ours.perspective, endpoints)):
        before, applied = x.clone(), function(x, drawn)
        assert applied.dtype is x.dtype and applied.shape == x.shape and torch.equal(x, before)
        torch.testing.assert_close(applied, by_torch(function, x, drawn), atol=1e-4, rtol=0)


def test_unmoved_corners_change_nothing_inside():
    x = images(2)
    y = ours.perspective(x, torch.tensor(CORNERS).expand(2, 4, 2))
    torch.testing.assert_close(y, x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "endpoints",
    [
        [[15, 19], [29, 5], [44, 38], [1, 33]],  # three on a line: no map
        [[5, 5], [5, 5], [5, 5], [5, 5]],  # one point
        [[0, 0], [10, 10], [20, 20], [30, 30]],  # a line
        [[10, 10], [40, 10], [10, 10], [10, 40]],  # two corners in one
        [[22, 22], [49, 0], [27, 27], [0, 49]],  # almost folded: the horizon crosses the image
    ],
)
def test_degenerate_perspectives_are_finite(endpoints):
    y = ours.perspective(images(1), torch.tensor([endpoints]))
    assert y.isfinite().all()
    assert y.min() >= 0
    assert y.max() <= 1


@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), min_size=4, max_size=4))
@settings(deadline=None, max_examples=100)
def test_any_perspective_is_finite_and_maps_its_corners(endpoints):
    e = torch.tensor([endpoints])
    y = ours.perspective(images(1), e)
    assert y.isfinite().all()
    assert 0 <= y.min() <= y.max() <= 1
    to = ours.homographies(e, SIZE, SIZE)[0] @ torch.cat([e[0].double(), torch.ones(4, 1)], dim=1).T  # (3, 4)
    if to.isfinite().all():
        torch.testing.assert_close((to[:2] / to[2]).T, torch.tensor(CORNERS).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [SIZE, 8])
def test_blur(size):
    x = images(30, size)
    sigmas = torch.cat([ours.draw_blur(28, size, rng()), torch.tensor([0.1, 2.0])])
    expected = one_by_one(lambda image, sigma: reference.gaussian_blur(image, 15, sigma.item()), x, sigmas)
    torch.testing.assert_close(ours.blur(x, sigmas), expected, atol=1e-4, rtol=0)


def test_blur_of_an_oblong_image():
    x = torch.rand(1, 20, 30, generator=rng())
    expected = reference.gaussian_blur(x, 15, 1.3)
    torch.testing.assert_close(ours.blur(x, torch.tensor([1.3])), expected, atol=1e-4, rtol=0)


def test_sharpen():
    x = images(10)
    torch.testing.assert_close(ours.sharpen(x), one_by_one(lambda i: reference.adjust_sharpness(i, 4), x), atol=1e-4, rtol=0)


def test_noise(monkeypatch):
    x = images(3)
    noise = ours.draw_noise(3, SIZE, rng())
    monkeypatch.setattr(torch, "randn_like", lambda image: (noise / 0.01).view_as(image))  # torchvision draws its own
    expected = v2.functional.gaussian_noise(x[:, None], mean=0.0, sigma=0.01, clip=True)[:, 0]
    torch.testing.assert_close(ours.add_noise(x, noise), expected, atol=1e-6, rtol=0)
    assert ours.add_noise(torch.ones(1, 4, 4), torch.ones(1, 4, 4)).max() == 1


# --- drawn: torchvision's ranges, reached, and its distributions


@pytest.mark.parametrize("distortion", [0.5, 0.9])
def test_drawn_corners(distortion):
    drawn = ours.draw_perspective(4000, SIZE, rng(), distortion)
    torch.manual_seed(0)
    expected = torch.tensor([theirs.RandomPerspective.get_params(SIZE, SIZE, distortion)[1] for _ in range(1500)])
    for corner in range(4):
        for axis in range(2):
            a, b = drawn[:, corner, axis], expected[:, corner, axis]
            assert (a.min(), a.max()) == (b.min(), b.max())  # 1500 draws reach both ends of 13 or 23 values
            assert alike(a, b)


@pytest.mark.parametrize("size", [50, 49, 8])
def test_drawn_corners_end_where_torchvisions_do(size):
    furthest = int(0.9 * (size // 2))
    drawn = ours.draw_perspective(4000, size, rng(), 0.9)
    assert set(drawn[:, 0].flatten().tolist()) == set(range(furthest + 1))
    assert set(drawn[:, 2].flatten().tolist()) == set(range(size - furthest - 1, size))


@pytest.mark.parametrize("scale", [(0.1, 0.2), (0.02, 0.05)])
def test_drawn_boxes(scale):
    drawn = ours.draw_erase(6000, SIZE, rng(), scale)
    torch.manual_seed(0)
    blank = torch.zeros(1, SIZE, SIZE)
    expected = torch.tensor([theirs.RandomErasing.get_params(blank, scale, (0.3, 3.3), [0.0])[:4] for _ in range(3000)])
    top, left, height, width = drawn.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= SIZE).all()
    assert (left + width <= SIZE).all()
    for place, side in ((top, height), (left, width)):
        assert place.min() == 0
        assert (place + side).max() == SIZE
    for axis in range(4):
        assert alike(drawn[:, axis], expected[:, axis])
    area = height * width / SIZE**2
    assert alike(area, expected[:, 2] * expected[:, 3] / SIZE**2)
    assert alike(height / width, expected[:, 2] / expected[:, 3])
    assert scale[0] * 0.85 < area.min() < scale[0] * 1.05  # sides are rounded
    assert scale[1] * 0.95 < area.max() < scale[1] * 1.15


def test_a_box_that_never_fits_erases_nothing():
    boxes = ours.draw_erase(5, 8, rng(), (1.0, 1.0), ratio=(1.0, 1.0))
    x = images(5, 8)
    assert torch.equal(ours.erase(x, boxes), x)


def test_a_box_that_seldom_fits_is_drawn_again():
    """At a share of 0.9 a box fits only if it is nearly square; ten tries find one often, and as often as torchvision's."""
    drawn = ours.draw_erase(4000, SIZE, rng(), (0.9, 0.9))
    torch.manual_seed(0)
    blank = torch.zeros(1, SIZE, SIZE)
    expected = torch.tensor([theirs.RandomErasing.get_params(blank, (0.9, 0.9), (0.3, 3.3), [0.0])[2:4] for _ in range(2000)])
    found, theirs_found = (drawn[:, 2] > 0).double().mean(), (expected[:, 0] < SIZE).double().mean()
    assert 0.2 < theirs_found < 0.95
    assert abs(found - theirs_found) < 0.05


def test_drawn_sigmas():
    drawn = ours.draw_blur(4000, SIZE, rng())
    torch.manual_seed(0)
    assert alike(drawn, torch.tensor([theirs.GaussianBlur.get_params(0.1, 2.0) for _ in range(2000)]))
    assert 0.1 <= drawn.min() < 0.105
    assert 1.995 < drawn.max() <= 2.0


def test_drawn_noise():
    drawn = ours.draw_noise(40, SIZE, rng()).flatten()
    assert alike(drawn, torch.randn(100_000, generator=rng(1)) * 0.01)


# --- the table, and many kinds at once


def test_the_kinds_and_their_order():
    assert list(ours.ANOMALY) == [
        "baseline", "perspective_small", "perspective", "erase", "noise", "erase_perspective", "blur", "sharpness",
    ]  # fmt: skip
    assert list(ours.CLASSIFICATION) == ["none", "erase", "perspective", "both"]


@pytest.mark.parametrize(
    ("table", "name", "erased", "moved"),
    [
        ("ANOMALY", "erase", (0.1, 0.2), None),
        ("ANOMALY", "perspective_small", None, 0.5),
        ("ANOMALY", "perspective", None, 0.9),
        ("ANOMALY", "erase_perspective", (0.1, 0.2), 0.9),
        ("CLASSIFICATION", "erase", (0.02, 0.05), None),
        ("CLASSIFICATION", "perspective", None, 0.5),
        ("CLASSIFICATION", "both", (0.02, 0.05), 0.5),
    ],
)
def test_a_kind_is_its_steps_in_order(table, name, erased, moved):
    x, a, b = images(20), rng(5), rng(5)
    expected = x
    if erased:
        expected = ours.erase(expected, ours.draw_erase(20, SIZE, a, erased))
    if moved:
        expected = ours.perspective(expected, ours.draw_perspective(20, SIZE, a, moved))
    assert torch.equal(ours.apply_steps(x, getattr(ours, table)[name], b), expected)


@pytest.mark.parametrize("name", ["erase", "perspective", "erase_perspective", "blur"])
def test_with_a_probability_an_image_is_transformed_or_left(name):
    """The parameters are those of probability 1; torchvision has a `p` for the erasing and the perspective alone."""
    x, steps = images(2000, 8), ours.ANOMALY[name]
    moved = ours.apply_steps(x, steps, rng(), 1.0)
    assert torch.equal(moved, ours.apply_steps(x, steps, rng()))
    if name == "blur":
        assert torch.equal(ours.apply_steps(x, steps, rng(), 0.0), moved)
        return
    assert torch.equal(ours.apply_steps(x, steps, rng(), 0.0), x)
    some = ours.apply_steps(x, steps, rng(), 0.3)
    left = (some == x).flatten(1).all(1)
    expected = 0.7 ** len(steps)
    assert abs(float(left.double().mean()) - expected) < 4.5 * math.sqrt(expected * (1 - expected) / 2000)
    if len(steps) == 1:
        assert torch.equal(some[~left], moved[~left])


def test_the_planes_of_an_image_are_left_together():
    x = torch.rand(200, 3, 8, 8, generator=rng())
    left = (ours.apply_steps(x, ours.ANOMALY["erase"], rng(), 0.5) == x).flatten(2).all(2)  # (n, 3)
    assert (left == left[:, :1]).all() and 50 < left[:, 0].sum() < 150


def slow_mixed(x, kinds, generator, which):
    """The obvious twin: each kind's parameters drawn in the table's order, then every image for itself."""
    out = x[which].clone()
    for kind, steps in enumerate(ours.ANOMALY.values()):
        rows = [i for i, k in enumerate(kinds.tolist()) if k == kind]
        for step in steps if rows else ():
            parameters = step.draw(len(rows), x.shape[-1], generator) if step.draw else None
            for j, i in enumerate(rows):
                out[i : i + 1] = step.apply(out[i : i + 1], *([] if parameters is None else [parameters[j : j + 1]]))
    return out


def test_mixed_is_each_image_for_itself():
    x = images(60)
    kinds = torch.randint(8, (60,), generator=rng(1))
    assert set(kinds.tolist()) == set(range(8))
    expected = slow_mixed(x, kinds, rng(2), torch.arange(60))
    torch.testing.assert_close(ours.apply_mixed(x, kinds, rng(2)), expected, atol=1e-4, rtol=0)


def test_mixed_takes_the_images_it_is_told_to():
    x, which = images(10), torch.tensor([3, 3, 9, 0, 3])
    kinds = torch.tensor([0, 6, 2, 7, 0])
    mixed = ours.apply_mixed(x, kinds, rng(2), which=which)
    assert torch.equal(mixed[0], x[3])
    torch.testing.assert_close(mixed, slow_mixed(x, kinds, rng(2), which), atol=1e-5, rtol=0)


def test_mixed_leaves_its_input_alone():
    x = images(16)
    before = x.clone()
    ours.apply_mixed(x, torch.arange(16) % 8, rng())
    assert torch.equal(x, before)


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="kinds must lie in 0 … 7, got 0 … 8"):
        ours.apply_mixed(images(2), torch.tensor([0, 8]), rng())


def test_every_image_has_parameters_of_its_own():
    x = images(1).expand(30, -1, -1)
    for name, steps in ours.ANOMALY.items():
        if name not in ("baseline", "sharpness"):
            assert len(ours.apply_steps(x, steps, rng()).flatten(1).unique(dim=0)) > 20, name


@pytest.mark.gpu
def test_the_same_pictures_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    x, kinds = images(80), torch.arange(80) % 8
    expected = ours.apply_mixed(x, kinds, rng())
    same_draws = ours.apply_mixed(x.cuda(), kinds, rng())  # parameters from the same CPU generator
    torch.testing.assert_close(same_draws.cpu(), expected, atol=1e-3, rtol=0)
    own_draws = ours.apply_mixed(x.cuda(), kinds.cuda(), torch.Generator("cuda").manual_seed(0))
    assert own_draws.isfinite().all()
    torch.testing.assert_close(own_draws[::8].cpu(), x[::8])  # kind 0 leaves them as they are
