import pandas as pd
import pytest

from manyheads.data.tables import read_manifest, read_samples, read_splits, write_rejected, write_table
from manyheads.errors import IntegrityError
from manyheads.heads import Regression

HEADS = {"age": Regression(name="age", unit="years", minimum=0, maximum=116)}

SPLITS = pd.DataFrame(
    {"path": ["b.jpg", "a.jpg"], "sha256": ["2", "1"], "group": ["2", "1"], "subset": "train", "rule": ""}
)


def test_a_table_comes_back_as_it_was(tmp_path):
    write_table(tmp_path / "splits.csv", SPLITS)
    pd.testing.assert_frame_equal(read_splits(tmp_path / "splits.csv"), SPLITS, check_dtype=False)
    assert read_splits(tmp_path / "splits.csv")["rule"].tolist() == ["", ""]


def test_texts_that_look_like_numbers_or_nothing_stay_texts(tmp_path):
    write_table(tmp_path / "splits.csv", SPLITS.assign(group=["0012", "NA"]))
    assert read_splits(tmp_path / "splits.csv")["group"].tolist() == ["0012", "NA"]


def test_a_text_that_a_spreadsheet_would_compute_is_escaped_in_the_file_and_comes_back(tmp_path):
    paths = ["=cmd.jpg", "+a", "-1", "'-1", "-1.5e-3", "-1+2", "@b", "'=c", "''=d", "'e", "'", "f"]
    frame = pd.DataFrame({"path": paths, "sha256": "1", "group": "1", "subset": "train", "rule": "=1+1"})
    write_table(tmp_path / "splits.csv", frame)
    cells = [line.split(",")[0] for line in (tmp_path / "splits.csv").read_text().splitlines()[1:]]
    escaped = ["'=cmd.jpg", "'+a", "-1", "'-1", "-1.5e-3", "'-1+2", "'@b", "''=c", "'''=d", "'e", "'", "f"]
    assert cells == escaped
    pd.testing.assert_frame_equal(read_splits(tmp_path / "splits.csv"), frame, check_dtype=False)


def test_numbers_are_never_escaped(tmp_path):
    write_table(tmp_path / "numbers.csv", pd.DataFrame({"a": [-1.5, 2.0], "b": [-3, "=3"]}))
    assert (tmp_path / "numbers.csv").read_text() == "a,b\n-1.5,-3\n2.0,'=3\n"


def test_an_empty_manifest_is_a_table(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,age,note\n")
    manifest = read_manifest(tmp_path / "manifest.csv", HEADS)
    assert manifest.empty
    assert manifest["age"].dtype == "int64"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "path,sha256,group,subset\na,1,1,train\n",
        "path,sha256,group,subset,rule,more\na,1,1,train,,x\n",
        "path,sha256,group,subset,rule\na,1,1,train,\na,2,2,test,\n",
        "path,sha256,group,subset,rule\na,1",
    ],
    ids=["empty", "column missing", "column too many", "path twice", "cut off"],
)
def test_a_damaged_table_is_named_with_the_command_that_makes_it(content, tmp_path):
    (tmp_path / "splits.csv").write_text(content)
    with pytest.raises(IntegrityError, match=r"splits\.csv is damaged .*dvc repro split"):
        read_splits(tmp_path / "splits.csv")


def test_a_missing_table_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(IntegrityError, match=r"samples\.csv is missing.*dvc repro pack"):
        read_samples(tmp_path / "samples.csv", HEADS)


def test_labels_that_are_no_numbers_are_damage(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,age,note\na.jpg,old,\n")
    with pytest.raises(IntegrityError, match=r"manifest\.csv is damaged"):
        read_manifest(tmp_path / "manifest.csv", HEADS)


def test_rejected_rows_are_sorted_and_no_formulas(tmp_path):
    rows = [("z.jpg", "parse", "NAME_PATTERN", "why"), ("=cmd()|'x'", "parse", "NAME_UNSAFE", 'a "quoted", reason')]
    write_rejected(tmp_path / "rejected.csv", rows)
    table = pd.read_csv(tmp_path / "rejected.csv")
    assert table["path"].tolist() == ["'=cmd()|'x'", "z.jpg"]
    assert table.loc[0, "reason"] == 'a "quoted", reason'
