"""The training objective: a weighted sum of the heads' losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from manyheads.errors import ConfigError
from manyheads.heads import Head, HeadLoss, Labels, LabelStatistics, Scale

if TYPE_CHECKING:
    import keras


class HeadObjective(NamedTuple):
    """A head with its loss, weight and label statistics.

    Attributes:
        head: The head.
        function: Name of its loss.
        weight: Weight of its loss in the sum, or the initial value of a learned weight.
        statistics: Statistics of its training labels.
        complete: Whether all training labels are known; otherwise the loss is the mean over the known labels.
    """

    head: Head
    function: str
    weight: float
    statistics: LabelStatistics
    complete: bool = True

    @property
    def name(self) -> str:
        """Name of the head."""
        return self.head.name

    def outputs(self, features: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Return the head's outputs by name, shape (batch, units), float32."""
        return self.head.outputs(features, self.function, self.statistics)

    def loss(self) -> HeadLoss:
        """Return the head's loss as a function of all targets and outputs."""
        return self.head.loss(self.function, self.statistics)


MIXUP = "mixup-share"  # no head can have this name
"""Name of the target that says how much of each sample of a mixed batch is the sample itself, shape (n, 1), float32. It
is equal for all samples of the batch. The rest is the sample at the same position in the reversed batch."""

Objective = tuple[HeadObjective, ...]
"""One entry per head, in the order of the heads."""


def objective_of(
    heads: Mapping[str, Head],
    functions: Mapping[str, str],
    weights: Mapping[str, float],
    scale: Scale,
    labels: Mapping[str, Labels],
) -> Objective:
    """Return the objective for training labels.

    Args:
        heads: The heads by name.
        functions: Name of each head's loss.
        weights: Weight of each head's loss.
        scale: How regression labels are scaled; see ``LossConfig.scale``.
        labels: The training labels of each head, shape (n,) or (n, width).

    Raises:
        ConfigError: The names of losses or weights are not those of the heads.
    """
    for what, mapping in (("losses", functions), ("weights", weights)):
        if set(mapping) != set(heads):
            raise ConfigError(f"{what} are for {', '.join(sorted(mapping))}; the heads are {', '.join(sorted(heads))}")
    return tuple(
        HeadObjective(
            head=head,
            function=functions[name],
            weight=weights[name],
            statistics=head.statistics(scale, labels[name]),
            complete=bool(head.present(labels[name]).all()),
        )
        for name, head in heads.items()
    )
