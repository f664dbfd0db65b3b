"""The configuration: its schema, and the only code that composes or reads it.

``conf/`` is what people edit; ``params.yaml`` is its composition, byte for byte what ``dvc exp run`` writes. Whatever
comes in is validated once, by ``load``, into frozen models; functions receive the section they need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from manyheads import datasets
from manyheads.encoders import AnyEncoder
from manyheads.heads import Heads, Scale
from manyheads.inputs import AnyInput

Fraction = Annotated[float, Field(ge=0, le=1)]


NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Seed = Annotated[int, Field(ge=0, lt=2**31)]


Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """Which dataset, where it lies, and what its labels mean.

    Attributes:
        name: A dataset of ``manyheads.datasets``, or a reference to one of your own.
        path: The archive, folder or table, relative to the project's root.
        max_reject_fraction: Parse and pack fail when they reject a larger share than this.
        heads: One head for each label that is to be learned.
    """

    name: str
    path: Annotated[str, Field(min_length=1)]
    max_reject_fraction: Fraction
    heads: Heads = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if ":" not in self.name and self.name not in datasets.BUILT_IN:
            raise ValueError(
                f"name is {self.name!r}; it is {_listed(datasets.BUILT_IN, 'or')}, or a reference to your own"
            )
        return self


class SplitConfig(Section):
    """How samples are assigned to train, validation and test.

    Attributes:
        method: ``clean`` by duplicate group, ``random`` by sample, ``listed`` by files of names.
        train: Share of the training subset (``clean`` and ``random``).
        validation: Share of the validation subset; with ``listed``, the share of the train list that is set aside
            when no validation list is given.
        test: Share of the test subset (``clean`` and ``random``).
        files: With ``listed``, a file of names for each subset; with any method, ``reviewed`` names samples that a
            person has looked at and wants left out. Paths are relative to the project's root.
        seed: Seed of the assignment; apart from the training's, so that trainings with several seeds share a split.
    """

    method: Literal["clean", "random", "listed"]
    train: Fraction
    validation: Fraction
    test: Fraction
    files: dict[Literal["train", "validation", "test", "reviewed"], str]
    seed: Seed

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.method == "listed":
            missing = {"train", "test"} - set(self.files)
            if missing:
                raise ValueError(f"method 'listed' needs files for {' and '.join(sorted(missing))}")
        elif abs(self.train + self.validation + self.test - 1) > 1e-6:
            total = self.train + self.validation + self.test
            raise ValueError(f"train, validation and test must add up to 1, got {total:g}")
        return self


class AuditConfig(Section):
    """How labels are looked through for what is wrong; see the stage ``audit``.

    Attributes:
        folds: Into how many the training subset is dealt; a model for each is trained without it. 0 for no audit.
        epochs: Passes of each of these models.
    """

    folds: Annotated[int, Field(ge=0, le=20)]
    epochs: PositiveInt

    @model_validator(mode="after")
    def _several(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 1: a model that is trained without everything learns nothing; use 0 or 2 to 20")
        return self


class LossConfig(Section):
    """The loss of each head and what it weighs in the sum.

    Attributes:
        name: Name of the option, for tables and tags.
        scale: What regression labels are standardised with before their loss: ``standard`` (mean and standard
            deviation of the training labels), ``maximum`` (the label space's maximum, as the article does) or ``none``.
        functions: Loss of each head: by its name, in the order of the heads, or one for all.
        weighting: ``fixed``, or ``learned``: one log variance a head is trained along; see ``objective.MultiHead``.
        weights: Weight of each head's loss, or where it starts if it is learned; given as ``functions`` are.
        form: How the objective, which may look at several outputs at once, reaches Keras: by a training step of its
            own, as a loss that a layer adds, or as the loss of one combined output. The result is the same.
    """

    name: str
    scale: Scale
    functions: dict[Identifier, str]
    weighting: Literal["fixed", "learned"]
    weights: dict[Identifier, NonNegative]
    form: Literal["training_step", "added_loss", "combined_output"] = "training_step"

    @model_validator(mode="after")
    def _learnable(self) -> Self:
        if self.weighting == "learned":
            for name, weight in self.weights.items():
                if weight == 0:
                    raise ValueError(f"weights.{name} is 0: a learned weight starts above 0, or use weighting 'fixed'")
        return self


class TrainConfig(Section):
    """How the model is trained.

    Attributes:
        epochs: Passes over the training subset.
        batch_size: Samples in a step.
        optimizer: ``adam``, ``rmsprop``, or ``adamw`` with ``weight_decay``.
        learning_rate: Its highest value.
        schedule: ``cosine`` (linear warm-up, then cosine to zero), ``inverse_time`` (the article's: divided by
            1 + step * learning_rate / epochs) or ``constant``.
        warmup_epochs: Epochs of the linear warm-up (``cosine``).
        weight_decay: Decoupled weight decay (``adamw``).
        augment: How strongly training inputs are changed at random, 0 for not at all; see ``Input.augment``.
        flip_tta: Whether the saved model's predictions are means over a sample and its mirror image; see
            ``Input.mirror``.
        precision: Dtype policy of the hidden layers; ``auto`` takes bfloat16 where the machine computes in it.
        deterministic: Bit-equal weights from the same seed on the same machine, for some time.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Literal["adam", "adamw", "rmsprop"]
    learning_rate: PositiveFloat
    schedule: Literal["cosine", "inverse_time", "constant"]
    warmup_epochs: NonNegative
    weight_decay: NonNegative
    augment: Fraction
    flip_tta: bool
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    deterministic: bool


class TrackingConfig(Section):
    """Where runs are recorded.

    Attributes:
        experiment: Name of the MLflow experiment.
    """

    experiment: Annotated[str, Field(min_length=1)]


class Config(Section):
    """Everything that ``params.yaml`` holds.

    Attributes:
        seed: Seed of the weights, the order of samples and the augmentation.
        extensions: Packages that references such as ``extensions.wine:Wine`` may import from; see ``extensions``.
        inputs: The inputs by name, and how they are read.
    """

    seed: Seed
    extensions: tuple[str, ...]
    data: DataConfig
    inputs: dict[Identifier, AnyInput] = Field(min_length=1)
    split: SplitConfig
    audit: AuditConfig
    model: AnyEncoder
    loss: LossConfig
    train: TrainConfig
    tracking: TrackingConfig

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        """Give losses and weights that come in the order of the heads, or as one for all, the heads' names."""
        try:
            heads, loss = list(values["data"]["heads"]), dict(values["loss"])
            for key in ("functions", "weights"):
                loss[key] = _named(key, loss[key], heads)
        except (KeyError, TypeError):
            return values  # what is missing is said when the sections are read
        return {**values, "loss": loss}

    @model_validator(mode="after")
    def _inputs_fit(self) -> Self:
        if conflict := self.model.conflict_with(self.inputs):
            raise ValueError(f"model.encoder={self.model.encoder} {conflict}")
        kinds = self.inputs.values()
        augmented = any(kind.AUGMENTATION_DRAWS for kind in kinds)
        mirrored = any(kind.HAS_MIRROR_IMAGE for kind in kinds)
        moved = [name for name, head in self.data.heads.items() if head.is_spatial]
        for key, on, possible in (
            ("train.augment", self.train.augment, augmented),
            ("train.flip_tta", self.train.flip_tta, mirrored),
        ):
            if on and not possible:
                raise ValueError(f"{key} does nothing to the inputs {_listed(self.inputs)}: turn it off")
            if on and moved:
                raise ValueError(f"{key} would move what {_listed(moved)} locates: turn it off")
        for name, head in self.data.heads.items():
            if conflict := head.conflict_with(self.data.heads):
                raise ValueError(f"data.heads.{name}: {conflict}")
        return self

    @model_validator(mode="after")
    def _losses_fit_heads(self) -> Self:
        heads = set(self.data.heads)
        for key, mapping in (("loss.functions", self.loss.functions), ("loss.weights", self.loss.weights)):
            if set(mapping) != heads:
                raise ValueError(f"{key} names {_listed(mapping)}; the heads are {_listed(heads)}")
        for name, function in self.loss.functions.items():
            known = self.data.heads[name].loss_functions
            if function not in known:
                raise ValueError(f"loss.functions.{name} is {function!r}; this head takes {_listed(known, 'or')}")
            if self.loss.weighting == "learned" and function in self.data.heads[name].signed_losses:
                raise ValueError(
                    f"loss.functions.{name} is {function!r}, which may fall below 0: its weight cannot be learned, use "
                    "weighting 'fixed' or another function"
                )
            for output in self.data.heads[name].output_names(heads)[1:]:
                raise ValueError(f"data.heads.{output} has the name of an output of {name}: rename the head")
        columns = dict.fromkeys(("path", "group", "error"), "the table of predictions")
        for name, head in self.data.heads.items():
            labels = head.label_columns
            for column in (*labels, *(f"{label}_label" for label in labels), *head.extra_columns):
                if column in columns:
                    raise ValueError(
                        f"data.heads.{name} has the column {column} that {columns[column]} has: rename head or class"
                    )
                columns[column] = f"data.heads.{name}"
        if not any(self.loss.weights.values()):
            raise ValueError("loss.weights are all 0: nothing would be learned")
        return self


def _named(key: str, given: Any, heads: Sequence[str]) -> Any:
    if isinstance(given, Mapping):
        return given
    if not isinstance(given, list | tuple):
        return dict.fromkeys(heads, given)
    if len(given) != len(heads):
        raise ValueError(f"loss.{key} has {len(given)} entries for {len(heads)} heads, {_listed(heads)}")
    return dict(zip(heads, given, strict=True))


def _listed(names: Mapping[str, Any] | Sequence[str] | set[str], word: str = "and") -> str:
    ordered = sorted(names)
    return f" {word} ".join(filter(None, [", ".join(ordered[:-1]), ordered[-1] if ordered else "nothing"]))
