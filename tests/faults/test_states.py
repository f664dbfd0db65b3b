"""Files that the project wrote and somebody cut or edited."""

import pytest

from conftest import TINY, compose, write_lock
from manyheads.commands import results
from manyheads.errors import IntegrityError
from manyheads.sweeps.trials import TrialStore
from manyheads.tracking import dvc


@pytest.mark.parametrize("text", ["", "[]", '{"name": "one"', "[" * 100_000, "\xff\xfe"])
def test_row_56_a_damaged_state_of_a_trial_is_named(text, tiny_project):
    store = TrialStore(tiny_project.root, tiny_project.sweeps / "weights", "sweep")
    path = store.folder / "trials/one/trial.json"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(IntegrityError, match=r"trials/one/trial\.json is damaged: delete .*trials/one, and the trial"):
        store.states()


def test_row_87_a_damaged_dvc_lock_is_named_wherever_it_is_cut(tiny_project):
    settings, root = compose(*TINY).model_dump(mode="json"), tiny_project.root
    write_lock(tiny_project, compose(*TINY))
    lock = root / "dvc.lock"
    whole = lock.read_bytes()
    others = [b"stages: text\n", b"stages: {pack: null}", b"stages: {pack: 3, split: []}", b"\xff", b"[" * 5000]
    others += [b"stages: {pack: {outs: [{}]}, split: {deps: 3}}", b"stages: {pack: {params: {params.yaml: x}}}"]
    said = []
    for content in (*(whole[:size] for size in range(0, len(whole) - 1, 41)), *others):
        lock.write_bytes(content)
        dvc.locked_digest(root, "data/packed")
        for ask in (dvc.is_data_of_lock, lambda root: dvc.require_data_as_locked(settings, root)):
            try:
                ask(root)
            except IntegrityError as error:
                said.append(str(error))
    assert all("dvc repro" in line and "\n" not in line for line in said)
    remedy = "dvc.lock is damaged: restore it with `git checkout dvc.lock`, or delete"
    assert sum(remedy in line for line in said) > 2 * len(others)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"n": 3, "sco', '{"n": 1, "score": "x", "baseline": {}}', "[" * 100_000],
    ids=["empty", "list", "nothing", "null", "cut", "text", "deep"],
)
def test_row_87_metrics_that_are_none_are_named(text, tiny_project, monkeypatch):
    monkeypatch.chdir(tiny_project.root)
    tiny_project.metrics.parent.mkdir(exist_ok=True)
    tiny_project.metrics.write_text(text)
    with pytest.raises(IntegrityError, match=r"reports/metrics\.json .*: run `make repro`$") as caught:
        results.main([])
    assert "\n" not in str(caught.value)
