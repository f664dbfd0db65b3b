"""Synthetic posts: texts of invented words whose frequencies depend on the writer's age, income and gender.

Some words of a post depend on the age, some on the level of income, some on the gender, and the others on none of them.
Words of the age vary by some years, short posts may lack a kind of word, and the income of some posts is missing.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from manyheads.datasets.documentation import synthetic
from manyheads.datasets.table import Table

if TYPE_CHECKING:
    import pandas as pd

SEED = 20180101
POSTS = 3000
AGES = (16, 80)
INCOMES = 10
GENDERS = ("f", "m")
UNKNOWN_INCOME = 0.1

SHARES = (0.15, 0.3, 0.1, 0.45)  # of words that depend on age, income, gender and none of them
FILLER_WORDS, INCOME_WORDS, GENDER_WORDS = 400, 2, 4
YEARS_PER_WORD = 4
SHORTEST, LONGEST = 20, 260


def generate() -> pd.DataFrame:
    """Return a table of posts and their labels."""
    import pandas as pd

    random = np.random.default_rng(SEED)
    ages = (AGES[1] - AGES[0]) // YEARS_PER_WORD + 1
    words = _words(random, FILLER_WORDS + ages + INCOMES * INCOME_WORDS + len(GENDERS) * GENDER_WORDS)
    filler, of_age, rest = np.split(words, [FILLER_WORDS, FILLER_WORDS + ages])
    of_income = rest[: INCOMES * INCOME_WORDS].reshape(INCOMES, INCOME_WORDS)
    of_gender = rest[INCOMES * INCOME_WORDS :].reshape(len(GENDERS), GENDER_WORDS)
    rows = [_post(random, filler, of_age, of_income, of_gender) for _ in range(POSTS)]
    return pd.DataFrame(rows, columns=["posts", "age", "income", "gender"])


def _words(random: np.random.Generator, n: int) -> np.ndarray:
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]
    every = np.array(["".join(parts) for parts in itertools.product(syllables, repeat=2)])
    return random.permutation(every)[:n]


def _post(
    random: np.random.Generator, filler: np.ndarray, of_age: np.ndarray, of_income: np.ndarray, of_gender: np.ndarray
) -> tuple[str, int, str, str]:
    age = int(random.integers(AGES[0], AGES[1] + 1))
    income, gender = int(random.integers(INCOMES)), int(random.integers(len(GENDERS)))
    length = int(np.exp(random.uniform(np.log(SHORTEST), np.log(LONGEST))))
    n_age, n_income, n_gender, n_filler = random.multinomial(length, SHARES)
    years = random.normal(age - AGES[0], 3, n_age).clip(0, AGES[1] - AGES[0])
    words = [
        *of_age[np.floor(years / YEARS_PER_WORD).astype(int)],
        *of_income[income, random.integers(0, INCOME_WORDS, n_income)],
        *of_gender[gender, random.integers(0, GENDER_WORDS, n_gender)],
        *random.choice(filler, n_filler),
    ]
    known = random.random() >= UNKNOWN_INCOME
    return " ".join(random.permutation(words)), age, f"level {income}" if known else "", GENDERS[gender]


DATASET = Table(
    synthetic(
        "to try a model of texts with heads of three kinds",
        "`age`, `income` and `gender` determine the frequencies of the words; one income in ten is missing.",
    ),
    generate,
)
