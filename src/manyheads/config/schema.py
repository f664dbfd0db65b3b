"""The schema of the configuration: frozen sections with checks of types, ranges and names.

People edit ``conf/``; ``params.yaml`` is its composition, with the same bytes that ``dvc exp run`` writes. The
configuration is validated once, by ``config.loading.load``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from manyheads import datasets
from manyheads.encoders import AnyEncoder
from manyheads.errors import did_you_mean
from manyheads.heads import Heads, Scale
from manyheads.inputs import AnyInput

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
ColumnName = Annotated[str, Field(min_length=1)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """Base of all sections: frozen, without unknown keys, and with finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """The dataset, its path, and the heads that learn its labels.

    Attributes:
        name: A dataset of ``manyheads.datasets``, or a reference to one of your own.
        path: The archive, folder or table, relative to the project's root.
        max_reject_fraction: Largest share of rejected samples in parse and in pack; above it they fail.
        heads: One head for each label to learn, by name.
        columns: With a table, the column of an input or a head that has another name, or the columns of an input of
            several numbers.
    """

    name: str
    path: Annotated[str, Field(min_length=1)]
    max_reject_fraction: Fraction
    heads: Heads = Field(min_length=1)
    columns: dict[Identifier, ColumnName | Annotated[tuple[ColumnName, ...], Field(min_length=1)]] = {}

    @property
    def title(self) -> str:
        """Name of the data for titles: that of its file or folder, because a dataset such as ``table`` is any table."""
        return PurePosixPath(self.path).name.partition(".")[0].lower() or self.name

    @model_validator(mode="after")
    def _known(self) -> Self:
        if ":" not in self.name and self.name not in datasets.BUILT_IN:
            raise ValueError(
                f"name is {self.name!r}; it is {_listed(datasets.BUILT_IN, 'or')}, or a reference to your own"
            )
        return self


class SplitConfig(Section):
    """The assignment of samples to train, validation and test.

    Attributes:
        method: ``clean`` by duplicate group, ``random`` by sample, ``listed`` by files of names.
        train: Share of the training subset (``clean`` and ``random``).
        validation: Share of the validation subset; with ``listed`` and without a validation list, the share of the
            train list that becomes the validation subset.
        test: Share of the test subset (``clean`` and ``random``).
        files: With ``listed``, a file of names for each subset; with any method, ``reviewed`` is a file of names that a
            person has reviewed and excludes. Paths are relative to the project's root.
        limit: Number of samples that the subsets keep together, in proportion; None for all. For trying things out.
        seed: Seed of the assignment. It is separate from the seed of the training, so that trainings with several
            seeds share a split.
    """

    method: Literal["clean", "random", "listed"]
    train: Fraction
    validation: Fraction
    test: Fraction
    files: dict[Literal["train", "validation", "test", "reviewed"], str]
    limit: Annotated[int, Field(ge=3)] | None = None
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
    """The search for wrong labels; see the stage ``audit``.

    Attributes:
        folds: Number of folds of the training subset; one model is trained without each fold. 0 for no audit.
        epochs: Epochs of each of these models.
    """

    folds: Annotated[int, Field(ge=0, le=20)]
    epochs: PositiveInt

    @model_validator(mode="after")
    def _several(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds is 1: a model without the only fold has no training samples; use 0 or 2 to 20")
        return self


class LossConfig(Section):
    """The loss of each head and its weight in the objective.

    Attributes:
        name: Name of the option, for tables and tags.
        scale: How regression labels are scaled before their loss: ``standard`` (mean and standard deviation of the
            training labels), ``maximum`` (maximum of the label space, as in the article) or ``none``.
        functions: Loss of each head: by name, as a list in the order of the heads, or one for all heads. ``default``,
            also for heads without, is the first of ``Head.loss_functions``.
        weighting: ``fixed`` or ``learned``. With ``learned``, one log variance per head is trained as well; see
            ``modeling.multi_head.MultiHeadModel``.
        weights: Weight of each head's loss, or its initial value if it is learned; in the form of ``functions``. A head
            without has the weight 1.
        form: How the objective is given to Keras: by an own training step, as a loss that a layer adds, or as the loss
            of one combined output. The result is the same.
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
    """The training of the model.

    Attributes:
        epochs: Number of passes over the training subset.
        batch_size: Number of samples in a step.
        optimizer: ``adam``, ``rmsprop``, or with ``weight_decay`` ``adamw`` and ``sgd`` (Nesterov's momentum of 0.9).
        learning_rate: Highest learning rate of the schedule.
        schedule: ``cosine`` (linear warm-up, then cosine to zero), ``inverse_time`` (as in the article: divided by
            1 + step * learning_rate / epochs) or ``constant``.
        warmup_epochs: Length of the linear warm-up in epochs (``cosine``).
        weight_decay: Decoupled weight decay (``adamw``, ``sgd``).
        augment: Strength of the augmentation of training inputs, 0 for none; see ``Input.augment``.
        mixup: Parameter alpha of mixup (Zhang et al., ICLR 2018), 0 for none. Each batch is mixed with itself in
            reverse order, and its loss is the same mean of the losses in both orders.
        cutmix: Share of the batches in which a square of each image is that of the batch in reverse order instead
            (CutMix: Yun et al., ICCV 2019); the areas weight the losses.
        flip_tta: Whether the saved model's predictions are means over a sample and its mirror image; see
            ``Input.mirror``.
        precision: Dtype policy of the hidden layers; ``auto`` is bfloat16 on machines with bfloat16 instructions.
        heads_first: Epochs in which the heads of a pretrained network learn before its other layers do; 0 for none. See
            ``training.heads_first``.
        deterministic: Whether the same seed gives bit-equal weights on the same machine; the training takes longer.
        overfit: Whether to learn one batch by heart, and to fail if a head does not; see ``training.overfitting``.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"]
    learning_rate: PositiveFloat
    schedule: Literal["cosine", "inverse_time", "constant"]
    warmup_epochs: NonNegative
    weight_decay: NonNegative
    augment: Fraction
    mixup: NonNegative
    cutmix: Fraction
    flip_tta: bool
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    heads_first: NonNegativeInt
    deterministic: bool
    overfit: bool = False


class TrackingConfig(Section):
    """The record of runs in MLflow.

    Attributes:
        experiment: Name of the MLflow experiment.
    """

    experiment: Annotated[str, Field(min_length=1)]


class Config(Section):
    """All settings, as in ``params.yaml``.

    Attributes:
        seed: Seed of the weights, the order of samples and the augmentation.
        extensions: Packages that references such as ``extensions.wine:Wine`` may import from.
        data: The dataset and the heads.
        inputs: The inputs by name.
        split: The assignment to subsets.
        audit: The search for wrong labels.
        model: The encoder.
        loss: The losses of the heads.
        train: The training.
        tracking: The record of runs.
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
        """Turn losses and weights into dictionaries by the heads' names; a head without has the default."""
        try:
            heads, loss = list(values["data"]["heads"]), dict(values["loss"])
            for key in ("functions", "weights"):
                default = "default" if key == "functions" else 1.0
                given = _named(key, loss[key], heads)
                loss[key] = {**dict.fromkeys(heads, default), **given} if isinstance(given, Mapping) else given
        except (KeyError, TypeError):
            return values  # the validation of the sections reports missing keys
        return {**values, "loss": loss}

    @model_validator(mode="after")
    def _columns_known(self) -> Self:
        known = [*self.inputs, *self.data.heads]
        if unknown := [name for name in self.data.columns if name not in known]:
            raise ValueError(
                f"data.columns names {unknown[0]!r}, which is no input and no head{did_you_mean(unknown[0], known)}"
            )
        return self

    @model_validator(mode="after")
    def _inputs_fit(self) -> Self:
        if conflict := self.model.conflict_with(self.inputs):
            raise _misfit("model", f"model.encoder={self.model.encoder} {conflict}")
        if self.train.heads_first and (self.model.has_frozen_trunk or not self.model.frozen().has_frozen_trunk):
            raise ValueError(
                "train.heads_first is for a pretrained network whose layers learn, which model.encoder="
                f"{self.model.encoder} is not with these settings: set it to 0"
            )
        if self.train.augment and self.model.has_frozen_trunk:
            raise ValueError(
                "train.augment does nothing where the features of all samples are computed once: set it to 0, or let "
                "blocks learn with a number for model.frozen_blocks"
            )
        if self.train.cutmix and self.model.has_frozen_trunk:
            raise ValueError("train.cutmix cuts images, but their features are computed once: set it to 0")
        kinds = self.inputs.values()
        augmented = any(kind.AUGMENTATION_DRAWS for kind in kinds)
        mirrored = any(kind.HAS_MIRROR_IMAGE for kind in kinds)
        fixed = [name for name, kind in self.inputs.items() if not kind.CAN_MIX]
        moved = [name for name, head in self.data.heads.items() if head.is_spatial]
        for key, on, possible in (
            ("train.augment", self.train.augment, augmented),
            ("train.flip_tta", self.train.flip_tta, mirrored),
        ):
            if on and not possible:
                raise ValueError(f"{key} does nothing to the inputs {_listed(self.inputs)}: turn it off")
            if on and moved:
                raise ValueError(f"{key} would move what {_listed(moved)} locates: turn it off")
        if self.train.mixup and (fixed or moved):
            raise ValueError(f"train.mixup cannot mix {_listed(fixed or moved)}: set it to 0")
        whole = [name for name, kind in self.inputs.items() if not kind.CAN_PASTE]
        if self.train.cutmix and (whole or moved):
            raise ValueError(f"train.cutmix cannot cut {_listed(whole or moved)}: set it to 0")
        for name, head in self.data.heads.items():
            if conflict := head.conflict_with(self.data.heads):
                raise ValueError(f"data.heads.{name}: {conflict}")
        return self

    @model_validator(mode="after")
    def _default_losses(self) -> Self:
        functions = dict(self.loss.functions)
        for name, head in self.data.heads.items():
            if functions.get(name) == "default":
                functions[name] = head.loss_functions[0]
        return self.model_copy(update={"loss": self.loss.model_copy(update={"functions": functions})})

    @model_validator(mode="after")
    def _losses_fit_heads(self) -> Self:
        heads = set(self.data.heads)
        for key, mapping in (("loss.functions", self.loss.functions), ("loss.weights", self.loss.weights)):
            if further := set(mapping) - heads:
                raise _misfit(
                    "loss", f"loss={self.loss.name}: {key} names {_listed(further)}; the heads are {_listed(heads)}"
                )
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
        columns = dict.fromkeys(("path", "group", "note", "error"), "the table of predictions")
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


def _misfit(group: str, message: str) -> PydanticCustomError:
    """Return the error of an option of a group that does not fit the data; another option of the group may."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "group": group})


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
