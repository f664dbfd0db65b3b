"""Models and servers of the tests of ``serve``."""

import io
import itertools
import json
import os
import signal
import tarfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image

import real
from builders import objective_for
from manyheads.heads import LabelStatistics
from manyheads.inputs import ImageInput
from manyheads.modeling import saving
from manyheads.modeling.build import build_network
from manyheads.runtime import ports, tensorflow
from manyheads.serving import server
from manyheads.serving.limits import Limits


class Hostile(ImageInput):
    """An image whose decoder crashes or hangs if the file says so."""

    kind: Literal["serving_models:Hostile"] = "serving_models:Hostile"

    def encode(self, data):
        if data == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if data == b"hang":
            time.sleep(1000)
        return super().encode(data)


def save_untrained(folder, settings, data="sample", **inputs):
    """Save a model with random weights for composed settings, and return its card."""
    tensorflow.require_tensorflow()
    import keras

    keras.utils.set_random_seed(1)
    heads, kinds = settings.data.heads, settings.inputs | inputs
    statistics = {
        name: LabelStatistics(30, 10, (0.5,) * len(head.label_columns), (0.2,) * len(head.label_columns), (0.5,) * 20)
        for name, head in heads.items()
    }
    objective = objective_for(heads, settings.loss.functions, statistics)
    network = build_network(settings.model, objective, kinds, folded=True)
    folder.mkdir(exist_ok=True)
    saving.save(folder, network, saving.ModelCard(data=data, inputs=kinds, columns=settings.data.columns, heads=heads))
    return saving.read_card(folder, ("serving_models",))


@contextmanager
def serving(folder, reports=None, limits=None, host="127.0.0.1"):
    """Serve a model from a thread of this process, and yield the port."""
    model = server.Model("tested", folder, ("serving_models",), reports)
    with (
        ports.bound(host, 0, "serve") as listener,
        server.prepared(model, listener, limits or Limits()) as prepared,
    ):
        thread = threading.Thread(target=prepared.run, kwargs={"sockets": [listener]})
        thread.start()
        port = listener.getsockname()[1]
        while not prepared.started:
            time.sleep(0.01)
        try:
            yield port
        finally:
            prepared.should_exit = True
            thread.join()


def faces(count):
    """Return the first pictures of UTKFace's archive, shape (200, 200, 3)."""
    with tarfile.open(real.ARCHIVE) as archive:
        files = (member for member in archive if member.name.endswith(".jpg"))
        return [np.asarray(Image.open(archive.extractfile(member))) for member in itertools.islice(files, count)]


def jpeg(seed=0, size=(64, 64)):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def ask(port, body, media_type="image/jpeg", query=""):
    """Return status and JSON of an answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict{query}", body, {"Content-Type": media_type}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get(port, path):
    """Return the text of a page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return answer.read().decode()


def form(*fields):
    """Return the body and the content type of a form of name and bytes or text."""
    parts = []
    for name, value in fields:
        file = b'; filename="x.jpg"' if isinstance(value, bytes) else b""
        data = value if isinstance(value, bytes) else value.encode()
        head = b'--part\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + file
        parts.append(head + b"\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + b"--part--\r\n", "multipart/form-data; boundary=part"
