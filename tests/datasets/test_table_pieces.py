"""A table that is read in pieces has the cells that it has as a whole."""

import numpy as np
import pandas as pd
import pytest

from manyheads.datasets import table
from manyheads.errors import DataError, IntegrityError

ROWS = 25


def frames():
    generator = np.random.default_rng(0)
    whole = pd.Series(range(ROWS))
    late = whole.astype("Int64").mask(whole == ROWS - 1)
    return {
        "text": pd.DataFrame({"a": [f'"{number}", a\nline' if number % 3 else "" for number in whole]}),
        "numbers": pd.DataFrame(
            {"whole": whole, "real": generator.normal(size=ROWS), "small": np.float32(0.1) * whole}
        ),
        "one missing at the end": pd.DataFrame({"fraction": late.astype("float64"), "whole": late}),
        "kinds": pd.DataFrame(
            {
                "time": pd.date_range("2024-01-01", periods=ROWS, freq="7h").where(whole != 20),
                "flag": pd.Series(whole % 2 == 0, dtype=object).where(whole != 20),
                "class": pd.Categorical([f"c{number // 10}" for number in whole]),
            }
        ),
        "index": pd.DataFrame({"a": whole}, index=pd.Index([f"i{number}" for number in whole], name="key")),
    }


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("name", frames())
def test_a_table_in_pieces_has_the_same_cells(name, suffix, tmp_path, monkeypatch):
    path = tmp_path / f"table.{suffix}"
    frame = frames()[name]
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    whole = table.read_frame(path, path.read_bytes())
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    pd.testing.assert_frame_equal(table.read_frame(path, path.read_bytes()), whole)
    assert table.count_rows(path) == len(whole) == ROWS


def test_whole_numbers_of_parquet_are_fractions_if_one_is_missing_in_any_piece(tmp_path, monkeypatch):
    """As pandas has it for the whole table."""
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": pa.array([*range(9), None], pa.uint8())}), path)
    assert table.read_frame(path, path.read_bytes())["a"].tolist() == [*(f"{i}.0" for i in range(9)), ""]
    assert pd.read_parquet(path)["a"].dtype == np.float64


def test_a_row_that_is_too_long_is_named_in_whatever_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "1,2\n" * 9 + "1,2,3\n")
    with pytest.raises(IntegrityError, match=r"table\.csv cannot be read as a table"):
        table.read_frame(path, path.read_bytes())
    with pytest.raises(IntegrityError, match=r"table\.csv cannot be read as a table"):
        table.count_rows(path)


@pytest.mark.parametrize("text", ["", "\n" * 2**17])
def test_a_table_of_nothing(text, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="is empty"):
        table.read_frame(path, path.read_bytes())
    with pytest.raises(DataError, match="is empty"):
        table.count_rows(path)


def test_an_empty_parquet_and_a_header_alone_have_no_rows(tmp_path):
    pd.DataFrame({"a": pd.Series([], dtype=str)}).to_parquet(tmp_path / "table.parquet")
    (tmp_path / "table.csv").write_text("a\n")
    for name in ("table.parquet", "table.csv"):
        with pytest.raises(DataError, match=r"has a header \(a\) and no rows"):
            table.read_frame(tmp_path / name, (tmp_path / name).read_bytes())
        with pytest.raises(DataError, match="no rows"):
            next(table.table_contents(tmp_path / name, ["a"]))
