"""Synthetic stories and questions: one sentence of each story answers the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from manyheads.datasets.documentation import synthetic
from manyheads.datasets.table import Table

if TYPE_CHECKING:
    import pandas as pd

SEED = 20180102
STORIES = 4000

ANSWERS = {
    "who": ("fox", "owl", "bear", "crow", "hare", "mole"),
    "what": ("lamp", "rope", "cup", "drum", "kite", "coin"),
    "where": ("garden", "kitchen", "harbour", "attic", "forest", "market"),
}
QUESTIONS = {
    "who": ("who was there ?", "who did it ?", "which animal came ?"),
    "what": ("what was left ?", "which thing is it ?", "what did it leave ?"),
    "where": ("where was it ?", "at which place ?", "where did it go ?"),
}
FILLERS = (
    "the evening was quiet .", "rain fell for an hour .", "nobody had seen the moon .", "the wind came from the east .",
    "a clock struck nine .", "the road was long .", "it was late in spring .", "some lights were on .",
)  # fmt: skip


def generate() -> pd.DataFrame:
    """Return a table of stories, each with a question and its answer."""
    import pandas as pd

    random = np.random.default_rng(SEED)
    rows = []
    for _ in range(STORIES):
        answers = {kind: str(random.choice(words)) for kind, words in ANSWERS.items()}
        sentences = [f"the {answers['who']} left a {answers['what']} in the {answers['where']} ."]
        sentences += random.choice(FILLERS, random.integers(0, 3), replace=False).tolist()
        kind = str(random.choice(list(QUESTIONS)))
        rows.append((" ".join(random.permutation(sentences)), str(random.choice(QUESTIONS[kind])), answers[kind]))
    return pd.DataFrame(rows, columns=["text", "question", "answer"])


DATASET = Table(
    synthetic("to try a model with two inputs", "`answer` is the word of the story that is asked for."),
    generate,
)
