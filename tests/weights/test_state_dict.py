import os
import sys

import numpy as np
import pytest

from manyheads.errors import IntegrityError
from manyheads.weights.state_dict import tensors
from state_dicts import stand_in_modules, state_dict, tensor


@pytest.fixture(autouse=True)
def _torch(monkeypatch):
    for name, module in stand_in_modules().items():
        monkeypatch.setitem(sys.modules, name, module)


VALUES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
COUNT = np.array(7, dtype=np.int64)


def test_tensors_are_read_by_name():
    transposed = np.asfortranarray(VALUES)
    content = {
        "whole": tensor("1", VALUES),
        "transposed": tensor("2", transposed),
        "part": tensor("1", VALUES, offset=12, shape=(12,), strides=(1,)),
        "count": tensor("3", COUNT),
    }
    found = tensors(state_dict(content))
    assert list(found) == list(content)
    for name, expected in (("whole", VALUES), ("transposed", VALUES), ("part", VALUES[1].ravel()), ("count", COUNT)):
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("number", range(5))
def test_no_pickle_of_a_file_calls_anything(tmp_path, number):
    content = {"whole": tensor("1", VALUES)}
    hostile = Hostile(os.mkdir, str(tmp_path / "called"))
    with pytest.raises(IntegrityError, match=r"it names (posix|nt)\.mkdir, which is no part of a dictionary"):
        tensors(state_dict(content, {number: hostile}))
    with pytest.raises(IntegrityError, match="no part of a dictionary of tensors"):
        tensors(state_dict({"whole": hostile}))
    with pytest.raises(IntegrityError, match=r"it names __builtin__\.eval"):
        tensors(state_dict(content, {number: Hostile(eval, f"__import__('os').mkdir({str(tmp_path / 'called')!r})")}))
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "place",
    [{"offset": 1}, {"offset": -1}, {"shape": (5, 5), "strides": (5, 1)}, {"shape": (2,), "strides": (24,)},
     {"shape": (2,), "strides": (-1,)}, {"shape": (0,), "strides": (1,)}, {"shape": (2, 3), "strides": (1,)},
     {"shape": (2**62, 2**62), "strides": (1, 1)}],
    ids=str,
)  # fmt: skip
def test_a_tensor_outside_of_its_numbers_is_refused(place):
    with pytest.raises(IntegrityError, match="not a state dict of PyTorch"):
        tensors(state_dict({"whole": tensor("1", VALUES, **place)}))


def test_other_objects_and_formats_are_refused():
    for content, said in (
        ({"whole": tensor("1", VALUES), "note": "text"}, "it holds other objects than tensors"),
        ({"whole": tensor("1", VALUES, kind="HalfStorage")}, r"it names torch\.HalfStorage"),
    ):
        with pytest.raises(IntegrityError, match=said):
            tensors(state_dict(content))
    for number, other in ((0, 1), (1, 1002), (2, {"little_endian": False})):
        with pytest.raises(IntegrityError, match="it is of another format"):
            tensors(state_dict({"whole": tensor("1", VALUES)}, {number: other}))


def test_a_file_that_ends_early_is_refused():
    data = state_dict({"whole": tensor("1", VALUES), "count": tensor("2", COUNT)})
    for length in range(0, len(data), 7):
        with pytest.raises(IntegrityError, match="not a state dict of PyTorch"):
            tensors(data[:length])
