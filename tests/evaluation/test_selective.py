import numpy as np

from manyheads.evaluation.bootstrap import Bootstrap
from manyheads.evaluation.selective import KEPT, selective
from manyheads.heads import Categorical

HEAD = Categorical(name="head", classes=("a", "b"))


def test_the_surest_predictions_are_kept():
    n = 200
    labels, share = np.zeros(n, dtype=np.int64), np.linspace(0.99, 0.01, n)
    outputs = np.stack([share, 1 - share], axis=1).astype(np.float32)
    outputs[: n // 2] = [0.9, 0.1]
    outputs[n // 2 :] = [0.4, 0.6]
    found = selective(HEAD, labels, outputs, HEAD.confidence(outputs), Bootstrap([f"{i}" for i in range(n)]))
    assert [row.kept for row in found] == list(KEPT)
    assert found[0].metric.value == 0.5
    assert {row.metric.value for row in found if row.kept <= 0.5} == {1.0}
    assert [row.n for row in found] == [round(kept * n) for kept in KEPT]
