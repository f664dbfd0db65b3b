"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import manyheads


def modules_with_examples():
    for module in pkgutil.walk_packages(manyheads.__path__, "manyheads."):
        # These import TensorFlow at their top.
        if module.name.endswith(("__main__", "fused_normalization", "multi_head", "objective_forms")):
            continue
        loaded = importlib.import_module(module.name)
        if any(test.examples for test in doctest.DocTestFinder(exclude_empty=True).find(loaded)):
            yield loaded


def test_every_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = list(modules_with_examples())
    assert len(found) > 10
    for module in found:
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        assert not failed, module.__name__
