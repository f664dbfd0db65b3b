"""Files as PyTorch before 1.6 wrote them, made without PyTorch."""

import io
import pickle
import struct
import sys
import types
from collections import OrderedDict

from manyheads.weights.state_dict import MAGIC, PROTOCOL

SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class _Storage:
    def __init__(self, kind, key, values):
        self.kind, self.key, self.values = kind, key, values


class _Tensor:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, _Storage):
            return "storage", obj.kind, obj.key, "cpu", obj.values.size, None
        return None


def stand_in_modules():
    """Return modules by name that stand for those of PyTorch while such a file is written."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*arguments):
        raise NotImplementedError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    return {"torch": torch, "torch._utils": utils}


def tensor(key, values, kind=None, offset=0, shape=None, strides=None):
    """Return what is written as a tensor; the storage holds ``values`` as they lie in memory.

    Args:
        key: Key of the storage.
        values: Array, float32 or int64.
        kind: Name of the storage's class.
        offset: Index of the tensor's first number in the storage.
        shape: Its shape.
        strides: Its strides in numbers.
    """
    kind = kind or ("FloatStorage" if values.dtype == "float32" else "LongStorage")
    storage = _Storage(getattr(sys.modules["torch"], kind), key, values)
    strides = [stride // values.itemsize for stride in values.strides] if strides is None else strides
    return _Tensor(storage, offset, tuple(values.shape if shape is None else shape), tuple(strides), False, {})


def state_dict(tensors, replaced=None):
    """Return the bytes of a file.

    Args:
        tensors: Tensors or other objects by name.
        replaced: Objects in place of the five pickles, by number.
    """
    storages = {each.arguments[0].key: each.arguments[0] for each in tensors.values() if isinstance(each, _Tensor)}
    parts = [MAGIC, PROTOCOL, SYSTEM, OrderedDict(tensors), list(storages)]
    file = io.BytesIO()
    for number, part in enumerate(parts):
        _Pickler(file, protocol=2).dump((replaced or {}).get(number, part))
    for storage in storages.values():
        file.write(struct.pack("<q", storage.values.size) + storage.values.tobytes(order="A"))
    return file.getvalue()
