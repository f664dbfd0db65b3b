"""No password reaches a log, a tag, an artifact or a page, whatever the message of a library's error is."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from conftest import TINY, make_sweep_project
from manyheads.commands.compare import main as compare
from manyheads.errors import MachineError
from manyheads.runtime.credentials import MASK, masked
from manyheads.tracking import runs

SECRET = "hunter2-s3cret"


@pytest.fixture
def project(tmp_path, migrated_store):
    return make_sweep_project(tmp_path, migrated_store)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://user:pa55@host:1/x failed", f"GET http://{MASK}@host:1/x failed"),
        (
            "postgresql+psycopg2://user:p@ss@host/db?sslmode=require",
            f"postgresql+psycopg2://{MASK}@host/db?sslmode=require",
        ),
        ("'https://token@host'", f"'https://{MASK}@host'"),
        ("a://u:p@h and b://v:q@i", f"a://{MASK}@h and b://{MASK}@i"),
        ("host=h user=u password=pa55 dbname=d", f"host=h user=u password={MASK} dbname=d"),
        ("s3://bucket/key?secret_key=abc&x=1", f"s3://bucket/key?secret_key={MASK}&x=1"),
        ("mail a@b.org, http://host/a@b, loss.weights.age=1", "mail a@b.org, http://host/a@b, loss.weights.age=1"),
    ],
)
def test_addresses_lose_their_credentials(text, shown):
    assert masked(text) == shown


def test_secrets_of_the_environment_are_masked_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:a%2Fb%40cd@host/db")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://me:other/pass@host")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123")
    monkeypatch.setenv("EMPTY_PASSWORD", "")
    text = "a%2Fb%40cd, a/b@cd, tok-123, other/pass, me"
    assert masked(text) == f"{MASK}, {MASK}, {MASK}, {MASK}, me"


def command(python, project, uri, *arguments):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(
        [python, "-m", "manyheads", *arguments],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def left_behind(root: Path) -> list[str]:
    """Return the files that hold the secret."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "uri",
    [
        f"http://somebody:{SECRET}@127.0.0.1:9",
        f"postgresql://somebody:{SECRET}@127.0.0.1:9/runs",
        f"nonsense://somebody:{SECRET}@127.0.0.1:9/runs",
    ],
)
def test_a_training_whose_store_cannot_be_reached_shows_no_password(uri, project, warm_python):
    code, said = command(warm_python, project, uri, "train", *TINY, "train.epochs=1")
    assert code == 0
    assert said.count("warning: MLflow did not take") == 1
    assert SECRET not in said
    assert "somebody" not in said
    assert not left_behind(project.root)


@pytest.mark.slow
def test_a_sweep_and_a_comparison_show_no_password(project, warm_python):
    uri = f"http://somebody:{SECRET}@127.0.0.1:9"
    code, said = command(warm_python, project, uri, "train", "-m", *TINY, "train.epochs=1", "seed=1,2")
    assert code == 0
    assert list(project.sweeps.glob("*/comparison.html"))
    failed, refused = command(warm_python, project, uri, "compare")
    assert failed != 0
    assert SECRET not in said + refused
    assert "somebody" not in said + refused
    assert not left_behind(project.root)


@pytest.mark.slow
def test_the_address_of_the_artifacts_shows_no_password(project, tiny_config, caplog, monkeypatch):
    """The store answers and takes the metrics. The address of its artifacts does not answer."""
    from manyheads.stages import train

    config = tiny_config("train.epochs=1")
    store = f"sqlite:///{project.root}/mlflow.db"
    address = f"nonsense://somebody:{SECRET}@127.0.0.1:9/artifacts"
    mlflow.MlflowClient(store).create_experiment(config.tracking.experiment, address)
    train.run(config, project, project)
    warnings = [record.getMessage() for record in caplog.records if "MLflow did not take" in record.getMessage()]
    assert len(warnings) == 1
    assert MASK in warnings[0]
    assert SECRET not in caplog.text


def test_what_goes_wrong_is_recorded_without_the_password(project, tiny_config):
    config = tiny_config()
    with pytest.raises(RuntimeError), runs.run(config.tracking.experiment, project.root, runs.RunSpec("x")) as run:
        run.tags({"note": f"see http://u:{SECRET}@h"})
        raise RuntimeError(f"GET http://somebody:{SECRET}@host/ failed")
    mlflow.set_tracking_uri(f"sqlite:///{project.root}/mlflow.db")
    tags = mlflow.get_run(run.run_id).data.tags
    assert tags["error"] == f"GET http://{MASK}@host/ failed"
    assert not [path for path in left_behind(project.root) if not path.endswith(".pyc")]


def test_an_error_that_nobody_caught_shows_no_password():
    code = (
        "from manyheads import __main__ as m\n"
        "def fail(*_): raise RuntimeError('http://somebody:hunter2@host')\n"
        "m._run = fail\n"
        "m.main(['train'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"http://{MASK}@host" in done.stderr.splitlines()[-1]
    assert "hunter2@" not in done.stderr.splitlines()[-1]


def test_a_store_that_cannot_be_read_is_named_without_its_password(project, monkeypatch):
    monkeypatch.chdir(project.root)
    (project.root / "params.yaml").write_text((Path(__file__).parents[2] / "params.yaml").read_text())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MachineError) as caught:
        compare([])
    assert f"http://{MASK}@127.0.0.1:9" in str(caught.value)
    assert SECRET not in str(caught.value)
