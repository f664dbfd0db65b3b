"""The catalogue names tests that exist and run."""

import ast
import functools

import pytest

from faults.catalogue import TESTS, rows

ROWS = rows()


@functools.cache
def decorators_of_tests(file: str) -> dict[str, list[str]]:
    """Return the decorators of each test of a file, by name; a method is named ``Class::test``."""
    found = {}
    body = ast.parse((TESTS / file).read_text(encoding="utf-8")).body
    for node in body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        for member in members:
            if isinstance(member, ast.FunctionDef) and member.name.startswith("test_"):
                name = member.name if member is node else f"{node.name}::{member.name}"
                found[name] = [ast.unparse(each) for each in (*node.decorator_list, *member.decorator_list)]
    return found


def is_skipped(decorator: str) -> bool:
    return decorator.startswith(("pytest.mark.skip", "unittest.skip")) and not decorator.startswith(
        "pytest.mark.skipif("
    )


def test_rows_are_numbered_from_one():
    assert [row.row for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 88


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.row} {row.fault}")
def test_row(row):
    assert row.fault
    assert row.expected or row.not_triable
    assert bool(row.tests) != bool(row.not_triable)
    for test in row.tests:
        file, _, name = test.partition("::")
        decorators = decorators_of_tests(file).get(name)
        assert decorators is not None, f"{test} does not exist"
        assert not any(map(is_skipped, decorators)), f"{test} is skipped"
