"""The server gives what ``predict`` writes, in each form that a request may have."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import real
from builders import SMALL_SYSTEMS
from manyheads.evaluation.bootstrap import Bootstrap
from manyheads.evaluation.selective import selective
from manyheads.heads import Categorical
from manyheads.inputs import NumbersInput, TextInput
from manyheads.modeling import saving
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.face_crops import CALIBRATIONS
from manyheads.prediction.face_finding import find
from manyheads.prediction.tables import Row, table_of
from manyheads.preprocessing.decoding import Raw, decode
from manyheads.serving.evaluated import Evaluated
from serving_models import ask, faces, form, get, jpeg, save_untrained, serving

pytestmark = pytest.mark.slow


def values_of(kinds, seed):
    """Return a value of JSON for each input."""
    random = np.random.default_rng(seed)
    values = {}
    for name, kind in kinds.items():
        if kind.FILE_SUFFIXES:
            values[name] = base64.b64encode(jpeg(seed)).decode()
        elif isinstance(kind, NumbersInput):
            values[name] = random.normal(size=kind.width).round(3).tolist()
        else:
            assert isinstance(kind, TextInput)
            values[name] = " ".join(map(str, random.integers(1, kind.vocabulary, kind.length)))
    return values


def cells(model, samples):
    """Return the table that ``predict`` writes for values of JSON, as text."""
    kinds = model.card.inputs
    raw = [
        Raw(i, {name: kinds[name].bytes_of(each) for name, each in values.items()}) for i, values in enumerate(samples)
    ]
    rows = [Row("", None, outcome) for outcome in decode(kinds, raw)]
    return [row.split(",")[1:-2] for row in table_of(model, rows).to_csv(index=False).splitlines()[1:]]


def flat(value):
    """Return the numbers and texts of an answer in their order, as a table has them."""
    if isinstance(value, dict):
        return [text for key, each in value.items() if key not in ("unit", "probability") for text in flat(each)]
    return [pd.Series([value], dtype=object).to_csv(index=False, header=False).strip()]


def without_tests(heads):
    return {name: {key: value for key, value in head.items() if key != "tested"} for name, head in heads.items()}


@pytest.mark.parametrize("name", SMALL_SYSTEMS)
def test_every_system_gets_the_cells_of_predict(name, tmp_path, make_config, one_worker):
    card = save_untrained(tmp_path, make_config(*SMALL_SYSTEMS[name]))
    samples = [values_of(card.inputs, seed) for seed in range(5)]
    expected = cells(AnsweringModel(saving.load(tmp_path)), samples)
    with serving(tmp_path) as port:
        status, together = ask(port, json.dumps(samples).encode(), "application/json")
        _, alone = ask(port, json.dumps(samples[3]).encode(), "application/json")
        page = get(port, "/")
    assert status == 200
    answered = [sample["heads"] for sample in together["samples"]]
    assert [flat(heads) for heads in answered] == expected
    assert alone == {"heads": answered[3], "note": "", "model": {"name": "tested", "digest": card.digest}}
    for head in card.heads.values():
        answer = answered[0][head.name]
        assert answer.get("unit", "") == head.label_unit
        if head.class_names:
            assert answer["probability"] == max(answer["probabilities"].values())
            assert tuple(answer["probabilities"]) == head.class_names
    assert card.digest[:12] in page
    assert "was not evaluated here" in page


def test_a_body_a_form_and_base64_are_the_same(port):
    files = [jpeg(seed) for seed in range(3)]
    bodies = [ask(port, file)[1] for file in files]
    assert len({json.dumps(body) for body in bodies}) == 3
    assert ask(port, files[0], "application/octet-stream")[1] == bodies[0]
    assert ask(port, files[0], "IMAGE/JPEG; charset=x")[1] == bodies[0]
    assert ask(port, *form(("image", files[0])))[1] == bodies[0]
    in_base64 = json.dumps({"image": base64.b64encode(files[0]).decode()}).encode()
    assert ask(port, in_base64, "application/json")[1] == bodies[0]
    several = ask(port, *form(*(("image", file) for file in files)))[1]
    assert [{**sample, "model": several["model"]} for sample in several["samples"]] == bodies


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_other_formats_are_read(kind, port, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x", kind, **({"lossless": True} if kind == "WEBP" else {}))
    Image.fromarray(pixels).save(tmp_path / "y", "PNG")
    answer, as_png = (ask(port, (tmp_path / name).read_bytes(), f"image/{kind.lower()}") for name in "xy")
    assert answer[0] == 200
    assert answer == as_png


def test_a_list_tells_of_each_sample(port):
    status, answer = ask(port, *form(("image", jpeg()), ("image", b"<html>")))
    assert status == 200
    good, bad = answer["samples"]
    assert set(good) == {"heads", "note"}
    assert bad == {"code": "DECODE_UNIDENTIFIED", "reason": "no image"}


def test_an_answer_tells_how_often_such_answers_are_right(port, model, evaluated):
    card, _ = model
    heads = ask(port, jpeg())[1]["heads"]
    assert heads["race"]["tested"] == {
        "metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "samples": 30, "share": 0.5,
    }  # fmt: skip
    assert heads["age"]["tested"] == {
        "metric": "mae", "value": 0.5, "low": 0.4, "high": 0.6, "samples": 60, "share": 1.0,
    }  # fmt: skip
    read = Evaluated(card, evaluated)
    assert read.tested("race", -2e9)["share"] == 1.0
    assert read.tested("race", 3.0)["share"] == 0.1
    assert Evaluated(card.model_copy(update={"digest": "of another"}), evaluated).tested("race", 1.0) is None


def test_the_confidence_of_an_evaluation_is_that_of_an_answer():
    """Of the samples that are at least as sure as a row says, the share that is right is the row's."""
    random = np.random.default_rng(0)
    head = Categorical(name="colour", classes=("red", "blue"))
    outputs = random.dirichlet((1, 1), 500).astype(np.float32)
    labels = np.where(random.random(500) < outputs[:, 0], 0, 1)
    confidence = head.confidence(outputs)
    right = head.values(outputs) == labels
    for row in selective(head, labels, outputs, confidence, Bootstrap([str(i) for i in range(500)])):
        sure = confidence >= row.confidence
        assert sure.sum() == row.n
        assert right[sure].mean() == pytest.approx(row.metric.value)


def test_a_picture_without_a_face_is_refused(port):
    status, answer = ask(port, jpeg(), query="?find_faces=1")
    assert (status, answer["code"]) == (422, "NO_FACE")
    assert ask(port, jpeg(), query="?find_faces=0")[0] == 200


@pytest.mark.skipif(real.ARCHIVE is None, reason=real.SKIP_REASON)
def test_faces_stand_from_left_to_right_as_predict_finds_them(port, model):
    card, folder = model
    picture = np.full((600, 900, 3), 128, np.uint8)
    for number, face in enumerate(faces(3)):
        picture[100 + 80 * number :][:200, 50 + 280 * number :][:, :200] = face
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    status, answer = ask(port, file.getvalue(), "image/png", "?find_faces=1")
    assert status == 200
    (found,) = find(card.inputs, CALIBRATIONS["utkface"], [Raw(0, {"image": file.getvalue()})])
    rows = [Row("", (number, *each.face.box), each.outcome) for number, each in enumerate(found, 1)]
    table = table_of(AnsweringModel(saving.load(folder)), rows).to_csv(index=False).splitlines()[1:]
    assert len(found) == 3
    for number, (face, line) in enumerate(zip(answer["faces"], table, strict=True), 1):
        assert [str(number), *flat(face["box"])] == line.split(",")[1:6]
        assert flat(without_tests(face["heads"])) == line.split(",")[6 : 6 + len(flat(without_tests(face["heads"])))]
        assert face["note"] == ""


def test_faces_are_found_where_the_crops_are_known(tmp_path, tiny_config, one_worker):
    save_untrained(tmp_path, tiny_config(), data="sample")
    with serving(tmp_path) as port:
        status, answer = ask(port, jpeg(), query="?find_faces=1")
        assert "Find faces" not in get(port, "/")
    assert (status, answer["code"]) == (400, "CROPS_UNKNOWN")


def test_what_prometheus_reads(port):
    ask(port, jpeg())
    text = get(port, "/metrics")
    assert 'manyheads_requests_total{code="",path="/predict",status="200"}' in text
    assert "manyheads_batch_samples_bucket" in text
    assert "manyheads_samples_waiting 0.0" in text
    assert 'manyheads_samples_total{outcome="usual"}' in text


def test_the_description_names_what_is_read_and_loads_nothing_from_elsewhere(port):
    described = json.loads(get(port, "/openapi.json"))
    content = described["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"image/*", "application/octet-stream", "multipart/form-data", "application/json"}
    for path in ("/", "/docs"):
        page = get(port, path)
        assert not re.search('(src|href)="?(http|//)', page)
    assert "&lt;script&gt;alert" in get(port, "/")
