"""Weights that stand for the published ones: random, for a MobileNet of two blocks, so that trainings take a second."""

import numpy as np

from manyheads.encoders import backbones, published
from manyheads.encoders.published import PUBLISHED, digest_of

BLOCKS = ((16, 1), (24, 2))


def install(monkeypatch, folder):
    """Write the weights to a folder in the place of ``face``, and return them.

    Args:
        monkeypatch: Undoes it.
        folder: A folder for ``face.npz``.
    """
    random = np.random.default_rng(0)
    weights = {}

    def add(name, height, width, taken, given, scale):
        weights[f"{name}/kernel"] = random.normal(size=(height, width, taken, given), scale=scale).astype(np.float32)
        size = given if "depthwise" not in name else taken
        weights[f"{name}/bias"] = random.normal(size=size, scale=0.1).astype(np.float32)

    add("block0_conv", 3, 3, 3, 32, 0.01)  # colours are up to 150
    channels = 32
    for block, (width, _) in enumerate(BLOCKS, start=1):
        add(f"block{block}_depthwise", 3, 3, channels, 1, 0.5)
        add(f"block{block}_pointwise", 1, 1, channels, width, 0.3)
        channels = width
    np.savez(folder / "face.npz", **weights)
    monkeypatch.setattr(backbones, "MOBILENET", BLOCKS)
    monkeypatch.setattr(published, "weights_path", lambda name: folder / f"{name}.npz")
    monkeypatch.setitem(published.PUBLISHED, "face", PUBLISHED["face"]._replace(digest=digest_of(weights)))
    return weights
