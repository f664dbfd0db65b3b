"""A small model of pictures with an evaluation, and its server."""

import json

import pytest

from manyheads.serving import workers
from serving_models import save_untrained, serving


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_config):
    """Return the card of a model whose crops are known, and its folder."""
    folder = tmp_path_factory.mktemp("model")
    return save_untrained(folder, tiny_config("experiment=minutes"), data="utkface"), folder


@pytest.fixture(scope="module")
def evaluated(model):
    """Return a folder with an evaluation of the model, whose figures are made up."""
    card, folder = model
    reports = folder / "reports"
    reports.mkdir()
    metric = {"value": 0.5, "low": 0.4, "high": 0.6}
    heads = {
        name: {"main_metric": head.main_metric, "metrics": {head.main_metric: metric}}
        for name, head in card.heads.items()
    }
    heads["race"]["selective"] = [
        {"kept": kept, "n": int(60 * kept), "metric": metric | {"value": kept}, "confidence": confidence}
        for kept, confidence in ((1.0, -1e9), (0.5, 0.0), (0.1, 2.0))
    ]
    (reports / "evaluation.json").write_text(json.dumps({"model": card.digest, "n": 60, "heads": heads}))
    text = "# Model card: tested\n\n<script>alert(1)</script> *a text*\n\n| a |\n| - |\n| b |\n"
    (reports / "model_card.md").write_text(text)
    return reports


@pytest.fixture(scope="module")
def port(model, evaluated):
    """Return the port of the model's server."""
    with serving(model[1], evaluated) as port:
        yield port


@pytest.fixture
def one_worker(monkeypatch):
    """Decode in one process, which starts in half the time."""
    monkeypatch.setattr(workers, "available_cores", lambda: 1)
