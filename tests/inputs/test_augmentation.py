import numpy as np
import pytest

from manyheads.inputs import ImageInput
from manyheads.inputs.augmentation import augment

DRAWS = ImageInput.AUGMENTATION_DRAWS

NEUTRAL = dict(zip(
    ("flip", "rotation", "zoom", "right", "down", "contrast", "brightness", "erased", "side", "top", "left"),
    (0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5),
    strict=True,
))  # fmt: skip


def draws(seed, epoch, n):
    return np.random.default_rng([seed, epoch]).random((n, DRAWS), dtype=np.float32)


def draws_with(n=1, **changes):
    return np.tile(np.array(list((NEUTRAL | changes).values()), dtype=np.float32), (n, 1))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 255, (6, 24, 24, 3), dtype=np.uint8)


def test_an_image_depends_on_its_own_numbers_alone(images):
    numbers = draws(1, 2, 6)
    assert numbers.shape == (6, DRAWS)
    together = augment(images, numbers)
    assert together.dtype == np.uint8
    assert together.shape == images.shape
    for i in range(6):
        np.testing.assert_array_equal(augment(images[[i]], numbers[[i]])[0], together[i])
    assert np.any(augment(images, draws(1, 3, 6)) != together)


def test_each_change_does_what_it_says(images):
    np.testing.assert_array_equal(augment(images, draws_with(6)), images)
    np.testing.assert_array_equal(augment(images, draws_with(6, flip=0.1)), images[:, :, ::-1])
    shifted = augment(images, draws_with(6, right=0.5 + 0.5 * (1 / 24) / 0.08))
    np.testing.assert_array_equal(shifted[:, :, 1:], images[:, :, :-1])
    np.testing.assert_array_equal(shifted[:, :, 0], images[:, :, 0])
    brighter = augment(np.full_like(images, 100), draws_with(6, brightness=1.0))
    assert np.unique(brighter).tolist() == [round(100 + 0.12 * 255)]
    steeper = augment(images, draws_with(6, contrast=1.0)).astype(float)
    assert steeper.std() > images.std()
    erased = augment(images, draws_with(6, erased=0.0, side=0.0, top=0.0, left=0.0))
    assert (erased != images).any(axis=-1).sum(axis=(1, 2)).tolist() == [4] * 6
    turned = augment(images, draws_with(6, rotation=1.0))
    assert np.any(turned != images)


def test_half_the_strength_reaches_half_as_far(images):
    flat = np.full_like(images, 100)
    assert np.unique(augment(flat, draws_with(6, brightness=1.0), 0.5)).tolist() == [round(100 + 0.06 * 255)]
    two_pixels = draws_with(6, right=0.5 + 0.5 * (2 / 24) / 0.08)
    np.testing.assert_array_equal(augment(images, two_pixels, 0.5)[:, :, 1:], images[:, :, :-1])
    erased = draws_with(6, erased=0.4)
    assert np.any(augment(images, erased) != images)
    np.testing.assert_array_equal(augment(images, erased, 0.5), images)


def test_a_grey_image_stays_even(images):
    grey = augment(np.full((4, 24, 24, 3), 128, dtype=np.uint8), draws(0, 0, 4))
    assert all(len(np.unique(image)) == 1 for image in grey)
