import pytest

from manyheads.errors import DataError
from manyheads.preprocessing.rejects import JUNK, Reject, check_reject_share

REJECTS = [
    Reject("b.jpg", "NAME_PATTERN", "The name says nothing."),
    Reject("c.jpg", "NAME_PATTERN", "It says nothing either."),
    Reject("d\n.jpg", "LABEL_RANGE", "The age is 999."),
    Reject(".DS_Store", JUNK, "An operating system left it."),
]


def test_the_share_may_be_reached_and_junk_does_not_count():
    check_reject_share("faces.zip", 7, REJECTS, 0.3)
    with pytest.raises(
        DataError, match=r"^faces\.zip: 3 of 10 samples are rejected .* data\.max_reject_fraction=0\.29"
    ):
        check_reject_share("faces.zip", 7, REJECTS, 0.29)


def test_the_message_has_an_example_and_a_reason_for_each_code_on_one_line():
    with pytest.raises(DataError) as raised:
        check_reject_share("faces.zip", 0, REJECTS, 1.0)
    expected = (
        r"(1 LABEL_RANGE, such as 'd\\n.jpg': The age is 999; 2 NAME_PATTERN, such as 'b.jpg': The name says nothing)"
    )
    assert expected in str(raised.value)


def test_data_of_junk_alone_has_no_samples():
    with pytest.raises(DataError, match="holds no samples, only junk"):
        check_reject_share("faces.zip", 0, REJECTS[-1:], 1.0)
