import numpy as np
import pytest

from manyheads.errors import IntegrityError
from manyheads.inputs import ImageInput, NumbersInput
from manyheads.modeling import novelty
from manyheads.modeling.novelty import Reference


def test_the_distance_is_mahalanobiss_if_all_directions_are_kept():
    random = np.random.default_rng(0)
    mixed = random.normal(size=(5, 5))
    features = (random.normal(size=(800, 5)) @ mixed + 3).astype(np.float32)
    directions = novelty.directions_of(features)
    assert directions.shape == (7, 5)
    new = (random.normal(size=(20, 5)) @ mixed * 2).astype(np.float32)
    covariance = np.cov(features.T, bias=True)
    centred = new - features.mean(axis=0)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", centred, np.linalg.inv(covariance), centred) / 5)
    np.testing.assert_allclose(novelty.distances(new, directions), expected, rtol=1e-3)


@pytest.mark.parametrize("width", [3, 300])
def test_a_hundredth_of_what_is_like_the_training_is_far_and_another_world_is(width):
    random = np.random.default_rng(1)
    features = random.normal(size=(3000, width)).astype(np.float32) ** 2
    directions = novelty.directions_of(features[:1000])
    assert len(directions) == min(width, novelty.MOST_DIRECTIONS) + 2
    limit = novelty.distance_limit(novelty.distances(features[1000:2000], directions))
    assert (novelty.distances(features[2000:], directions) > limit).mean() == pytest.approx(0.01, abs=0.01)
    assert (novelty.distances(features[2000:] - 20, directions) > limit).all()


def test_features_without_variance_have_finite_distances():
    for features in (np.zeros((10, 4), np.float32), np.full((2, 1), 5, np.float32)):
        directions = novelty.directions_of(features)
        assert np.isfinite(directions).all()
        assert np.isfinite(novelty.distances(features, directions)).all()
        assert novelty.distances(features + 1, directions).min() > 1e3


def test_directions_of_other_features_are_refused():
    directions = novelty.directions_of(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    novelty.check(directions, 4)
    for other in (directions[:, :3], directions.astype(np.float64), directions * np.nan, directions[:1]):
        with pytest.raises(IntegrityError):
            novelty.check(other, 4)


def test_each_kind_of_input_says_how_far_is_usual():
    kinds = {"image": ImageInput(image_size=16, duplicate_correlation=1), "row": NumbersInput(width=1)}
    ranges = {"image": {"aspect ratio": (1, 1), "shorter side in pixels": (200, 200)}, "row": {"number 1": (0, 10)}}
    reference = Reference(ranges=ranges, distance_limit=None)

    def words(ratio, side, number):
        shape = {"aspect ratio": ratio, "shorter side in pixels": side}
        return novelty.unusual_properties(reference, kinds, {"image": shape, "row": {"number 1": number}})

    assert words(1.05, 224, 10.9) == []
    assert words(1.78, 3000, 11.1) == [
        "image: aspect ratio 1.78, in training 1",
        "image: shorter side in pixels 3000, in training 200",
        "row: number 1 11.1, in training 0 to 10",
    ]
