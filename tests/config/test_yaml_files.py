import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyheads.config import composition, yaml_files
from manyheads.errors import ConfigError
from manyheads.paths import project_root

ROOT = project_root()
BOMB = b"a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a:\n\tb: 1\n", "line 2: it is not YAML"),
        (b"a: [1, 2\nb: 3\n", "line 2: it is not YAML"),
        (b"a: 1\nb: {c: 2, c: 3}\n", "line 2: the key 'c' stands twice: keep one of them"),
        (
            b"a: 1\nb: !!python/object/apply:os.system [touch canary]\n",
            "line 2: the tag !!python/object/apply:os.system",
        ),
        (b"a: !own 1\n", "line 1: the tag !own is not allowed"),
        (b"a: 1\nb: \xff\n", "line 2: a byte is not UTF-8"),
        (b"a: \x00\n", "is not YAML"),
        (BOMB, "line 5: aliases and values expand to more than 50,000 values"),
        (b"a: &a [*a]\n", "line 1: the alias .a has no anchor before it, or is inside of it"),
        (b"[" * 100_000, "line 1: values are nested more than 50 deep"),
        (b"a: 1\n" * 300_000, "is larger than 1024 KiB"),
    ],
    ids=["tab", "open", "twice", "object", "tag", "bytes", "zero", "bomb", "itself", "deep", "large"],
)
def test_a_file_that_is_no_plain_yaml_is_refused_with_its_line_before_it_is_read(content, message, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"params\.yaml.*{message}") as caught:
        yaml_files.read(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "canary").exists()


def test_plain_yaml_is_read_as_it_is(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: &x {b: 1.5}\r\nc: *x\r\nd:\r\n  <<: *x\r\n  e: null\r\nf: '1'\r\n")
    assert yaml_files.read(path) == {"a": {"b": 1.5}, "c": {"b": 1.5}, "d": {"b": 1.5, "e": None}, "f": "1"}
    yaml_files.require_plain([ROOT / "params.yaml", *composition.config_files(ROOT / "conf")])


@given(st.binary(max_size=200) | st.text(alphabet="a:-[]{}&*!'\"\n \t#|>?%@,<x1.", max_size=60).map(str.encode))
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "params.yaml"
    path.write_bytes(content)
    refusal = ""
    try:
        yaml_files.read(path)
    except ConfigError as error:
        refusal = str(error)
    assert "\n" not in refusal
