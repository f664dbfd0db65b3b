"""What becomes of the columns of tables as people have them."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manyheads.datasets.table import read_frame
from manyheads.errors import ConfigError, DataError
from manyheads.guessing import tables

RANDOM = np.random.default_rng(0)


def whole(low, high, n):
    return RANDOM.integers(low, high + 1, n)


def chosen(n, *values):
    return RANDOM.choice(np.array(values, dtype=object), n)


def sentences(n, words):
    return [" ".join(chosen(words, "dry", "oak", "plum", "long", "dark", "sharp", "round")) for _ in range(n)]


def with_empty(values, share, empty=""):
    return np.where(RANDOM.random(len(values)) < share, empty, np.asarray(values).astype(str))


def titanic(n=400):
    return {
        "PassengerId": range(1, n + 1),
        "Survived": whole(0, 1, n),
        "Pclass": whole(1, 3, n),
        "Name": [f"Braund {i}, Mr. Owen Harris" for i in range(n)],
        "Sex": chosen(n, "male", "female"),
        "Age": with_empty(whole(1, 80, n), 0.2),
        "SibSp": whole(0, 5, n),
        "Ticket": [f"A/5 {number}" for number in whole(1000, 99999, n)],
        "Fare": RANDOM.gamma(2, 15, n).round(4),
        "Cabin": with_empty([f"C{i % 150}" for i in range(n)], 0.77),
        "Embarked": chosen(n, "S", "C", "Q"),
    }


def wine(n=300):
    measures = {name: RANDOM.random(n).round(3) for name in ("fixed acidity", "volatile acidity", "pH", "alcohol")}
    return {**measures, "quality": whole(3, 9, n), "colour": chosen(n, "red", "white")}


def reviews(n=200):
    return {"review": sentences(n, 12), "quality": whole(60, 99, n), "colour": chosen(n, "red", "white")}


def adult(n=600):
    return {
        "age": whole(17, 90, n),
        "workclass": chosen(n, " Private", " ?", " State-gov"),
        "fnlwgt": whole(10_000, 900_000, n),
        "education": chosen(n, *(f"grade {i}" for i in range(16))),
        "native-country": chosen(n, *(f"country {i}" for i in range(41))),
        "income": chosen(n, "<=50K", ">50K"),
    }


def houses(n=400):
    return {
        "Id": range(1, n + 1),
        "MSZoning": chosen(n, "RL", "RM"),
        "LotFrontage": with_empty(whole(20, 100, n), 0.18, "NA"),
        "LotArea": whole(1300, 200_000, n),
        "Alley": with_empty(["Pave"] * n, 0.9, "NA"),
        "YearBuilt": whole(1880, 2010, n),
        "SaleCondition": chosen(n, "Normal", "Abnormal"),
        "SalePrice": RANDOM.gamma(4, 45_000, n).astype(int),
    }


def digits(n=300):
    return {f"pixel{i}": whole(0, 16, n) for i in range(8)} | {"digit": whole(0, 9, n)}


def ages(n=200):
    return {"image": [f"photos/{i}.jpg" for i in range(n)], "age": whole(1, 90, n), "race": whole(0, 4, n)}


def penguins(n=344):
    return {
        "species": chosen(n, "Adelie", "Gentoo", "Chinstrap"),
        "island": chosen(n, "Biscoe", "Dream"),
        "body_mass_g": whole(2700, 6300, n),
        "sex": with_empty(chosen(n, "male", "female"), 0.02),
    }


def posts(n=300):
    return {
        "": range(n),
        "date": pd.date_range("2020-01-01", periods=n).astype(str),
        "user_id": whole(1000, 1300, n),
        "language": ["en"] * n,
        "remarks": [""] * n,
        "text": sentences(n, 30),
        "age": whole(16, 80, n),
        "gender": chosen(n, "f", "m"),
    }


def questions(n=400):
    return {"text": sentences(n, 20), "question": sentences(n, 6), "answer": chosen(n, "fox", "owl", "bear")}


def ratings(n=300):
    return {"summary": sentences(n, 9), "rating": whole(1, 5, n), "helpful": chosen(n, "no", "yes")}


def measured(n=200):
    return {"x1": RANDOM.random(n), "x2": RANDOM.random(n), "x3": RANDOM.random(n)}


def spectra(n=100):
    rows = [" ".join(map(str, RANDOM.random(5).round(3))) for _ in range(n)]
    return {"spectrum": rows, "label": chosen(n, "a", "b")}


def sequences(n=100):
    rows = [" ".join(map(str, whole(1, 50, 5 + i % 7))) for i in range(n)]
    return {"tokens": rows, "label": chosen(n, "a", "b")}


# The table, the kind of each head, the kind of each input, and the columns that are neither.
TABLES = {
    "titanic": (titanic, {"survived": "binary"},
                {"name": "text", "sex": "text", "embarked": "text", "features": "numbers"},
                {"PassengerId", "Age", "Ticket", "Cabin"}),
    "wine": (wine, {"quality": "regression", "colour": "categorical"}, {"features": "numbers"}, set()),
    "reviews": (reviews, {"quality": "regression", "colour": "categorical"}, {"review": "text"}, set()),
    "adult": (adult, {"income": "categorical"},
              {"workclass": "text", "education": "text", "native_country": "text", "features": "numbers"}, set()),
    "houses": (houses, {"sale_price": "vector"},
               {"mszoning": "text", "alley": "text", "sale_condition": "text", "features": "numbers"},
               {"Id", "LotFrontage"}),
    "digits": (digits, {"digit": "categorical"}, {"features": "numbers"}, set()),
    "ages": (ages, {"age": "regression", "race": "categorical"}, {"image": "image"}, set()),
    "penguins": (penguins, {"species": "categorical"},
                 {"island": "text", "sex": "text", "body_mass_g": "numbers"}, set()),
    "posts": (posts, {"age": "regression", "gender": "categorical"}, {"text": "text"},
              {"unnamed_1", "date", "user_id", "language", "remarks"}),
    "questions": (questions, {"answer": "categorical"}, {"text": "text", "question": "text"}, set()),
    "ratings": (ratings, {"rating": "regression", "helpful": "binary"}, {"summary": "text"}, set()),
    "measured": (measured, {"x3": "vector"}, {"features": "numbers"}, set()),
    "spectra": (spectra, {"label": "categorical"}, {"spectrum": "numbers"}, set()),
    "sequences": (sequences, {"label": "categorical"}, {"tokens": "text"}, set()),
}  # fmt: skip


def guess(columns, heads=None, inputs=None, **writing):
    """Return the proposal for a table as it is read from a file."""
    buffer = io.StringIO()
    pd.DataFrame(columns).to_csv(buffer, index=False, **writing)
    frame = read_frame(Path("table.csv"), buffer.getvalue().encode(writing.get("encoding", "utf-8")))
    return tables.propose(tables.examine_table(frame, lambda path: True), len(frame), heads, inputs)


def kinds(parts):
    return {name: part.settings["kind"] for name, part in parts.items()}


@pytest.mark.parametrize("name", TABLES)
def test_columns_become_what_a_person_would_make_of_them(name):
    made, heads, inputs, ignored = TABLES[name]
    columns = made()
    proposal = guess(columns)
    assert kinds(proposal.heads) == heads
    assert kinds(proposal.inputs) == inputs
    assert {found.what for found in proposal.findings if "ignored" in found.becomes} == ignored
    # A column without a name gets one.
    assert [found.what for found in proposal.findings] == [name or "unnamed_1" for name in columns]


@pytest.mark.parametrize(
    "writing", [{"sep": ";"}, {"sep": "\t"}, {"encoding": "utf-8-sig"}, {"lineterminator": "\r\n"}]
)
def test_the_form_of_the_file_changes_nothing(writing):
    columns = wine()
    assert guess(columns, **writing).heads == guess(columns).heads


def test_the_user_chooses():
    columns = titanic()
    proposal = guess(columns, heads=["age", "Survived"])
    assert kinds(proposal.heads) == {"age": "regression", "survived": "binary"}
    assert "pclass" not in proposal.inputs
    assert proposal.inputs["features"].columns == ("Pclass", "SibSp", "Fare")
    proposal = guess(columns, inputs=["Pclass", "PassengerId"])
    assert proposal.inputs["features"].columns == ("PassengerId", "Pclass")
    assert kinds(proposal.heads) == {"survived": "binary"}
    with pytest.raises(ConfigError, match=r"no column 'Survivd'; the columns are PassengerId, Survived"):
        guess(columns, heads=["Survivd"])
    with pytest.raises(ConfigError, match="Age is in --heads and in --inputs"):
        guess(columns, heads=["Age"], inputs=["Age"])


def test_settings_come_from_the_cells():
    proposal = guess({**reviews(), "quality": np.tile(np.arange(60, 100), 5)})
    quality = proposal.heads["quality"].settings
    assert (quality["minimum"], quality["maximum"]) == (60, 100)
    assert quality["bins"] == [68, 76, 83, 91]
    assert quality["tolerance"] == 3
    assert proposal.inputs["review"].settings == {"kind": "text", "tokens": "words", "vocabulary": 100, "length": 12}
    price = guess({"x": RANDOM.random(100), "price": RANDOM.random(100) * 7e4 + 3e4}).heads["price"].settings
    assert (price["minimum"], price["maximum"]) == (0, 100_000)
    cold = guess({"x": RANDOM.random(100), "y": -RANDOM.random(100) * 0.01}).heads["y"].settings
    assert (cold["minimum"], cold["maximum"]) == (-0.01, 0)
    assert "Fill in the unit" in guess(measured()).heads["x3"].comment
    ids = guess(sequences()).inputs["tokens"].settings
    assert (ids["tokens"], ids["vocabulary"]) == ("ids", 51)


def test_numbers_that_mean_classes():
    assert guess(ages()).heads["race"].settings["classes"] == ["0", "1", "2", "3", "4"]
    assert guess({"x": RANDOM.random(60), "y": np.tile([10, 9, 2], 20)}).heads["y"].settings["classes"] == [
        "2", "9", "10",
    ]  # fmt: skip
    assert (
        guess({"x": RANDOM.random(60), "level": np.tile([1, 2, 3], 20)}).heads["level"].settings["kind"] == "regression"
    )
    answers = guess({"x": RANDOM.random(60), "y": np.tile(["Yes", "No", "No"], 20)}).heads["y"].settings
    assert answers == {"kind": "binary", "classes": ["No", "Yes"]}


def test_what_is_unsure_is_said_with_the_remedy():
    proposal = guess({**reviews(), "kind": ["rare"] * 3 + ["common"] * 100 + ["usual"] * 97, "taste": whole(0, 3, 200)})
    doubts = "\n".join(proposal.doubts)
    assert "kind: rare (3) occur in fewer than 10 rows" in doubts
    assert proposal.heads["kind"].settings["classes"] == ["common", "usual"]
    assert "taste: 4 whole numbers, taken for classes" in doubts
    assert "--heads quality makes the others inputs" in doubts
    proposal = guess(
        {"x": ["1,5", "2,5", "3,25", "1,75"] * 20, "z": RANDOM.random(80), "label": ["a", "b"] * 40}, sep=";"
    )
    assert "x: numbers with a comma" in "\n".join(proposal.doubts)
    slips = ["12 kg" if i % 40 == 0 else str(i * 1.5) for i in range(200)]
    proposal = guess({"weight": slips, "z": RANDOM.random(200), "label": ["a", "b"] * 100})
    assert "weight: numbers but for 5 cells such as '12 kg'" in "\n".join(proposal.doubts)


def test_coordinates_are_no_target_beside_a_label():
    columns = {"x": RANDOM.random(60), "y": RANDOM.random(60), "label": ["a", "b"] * 30}
    assert list(guess(columns).heads) == ["label"]


def test_words_for_a_missing_value_are_empty_cells_of_numbers():
    columns = {"power": with_empty(whole(1, 200, 200), 0.04, "?"), "mpg": with_empty(whole(9, 46, 200), 0.1, "n/a")}
    proposal = guess(columns)
    assert kinds(proposal.heads) == {"mpg": "regression"}
    assert kinds(proposal.inputs) == {"power": "numbers"}
    assert "power" in [found.what for found in proposal.findings if " empty; " in found.evidence]


def test_names_are_made_for_the_configuration():
    columns = {"Größe (cm)": RANDOM.random(60), "2nd": RANDOM.random(60), "日本": RANDOM.random(60)}
    proposal = guess({**columns, "path": ["a", "b"] * 30, "Path": ["c", "d"] * 30}, heads=["path", "Path", "日本"])
    assert list(proposal.heads) == ["path_2", "path_3", "column"]
    assert proposal.columns()["features"] == ("Größe (cm)", "2nd")
    assert proposal.columns()["path_3"] == "Path"
    assert guess(reviews()).columns() == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": RANDOM.random(50), "id": range(50)}, "no column is left as input"),
        ({"name": [f"n{i}" for i in range(50)], "id": range(50)}, "no column can be a head"),
        ({"text": sentences(50, 12), "date": ["2024-01-01", "2024-02-01"] * 25}, "no column can be a head"),
        ({"x": RANDOM.random(60), "y": [f"class {i // 3}" for i in range(60)]}, ""),
    ],
)
def test_a_table_that_cannot_be_learned_is_refused(columns, message):
    if not message:  # rare classes are texts to learn from
        assert list(guess(columns).heads) == ["x"]
        return
    with pytest.raises(DataError, match=message):
        guess(columns)


@pytest.mark.parametrize(("cells", "reason"), [([""] * 50, "nothing"), (["a"] * 50, "one value")])
def test_a_named_column_without_labels_is_refused(cells, reason):
    with pytest.raises(DataError, match=f"y cannot be a head: it holds {reason}"):
        guess({"x": RANDOM.random(50), "y": cells}, heads=["y"])
