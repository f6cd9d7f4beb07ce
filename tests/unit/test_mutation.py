"""The mutants that `python -m benchmarks.mutation` tries."""

import ast

import pytest

from benchmarks.mutation.__main__ import PACKAGES, sampled
from benchmarks.mutation.changes import mutants


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("a < b", ["a <= b", "a >= b"]),
        ("a is b", ["a is not b"]),
        ("a + b", ["a - b"]),
        ("a and b", ["a or b"]),
        ("not a", ["a"]),
        ("a = True", ["a = False"]),
        ("a = 0.5", ["a = 1.5"]),
        ("a += b", ["a -= b", "pass"]),
        ("f(a)", ["pass"]),
        ("raise E", ["pass"]),
        ("log.debug(a)", []),
        ("def f(a: tuple[int, 3]) -> 3: ...", []),
        ("'text'", []),
    ],
)
def test_the_mutants_of_a_line(source, wrong):
    tree = ast.parse(source)
    assert [mutant.source(tree) for mutant in mutants(tree)] == wrong
    assert ast.unparse(tree) == ast.unparse(ast.parse(source))


def test_a_sample_depends_on_its_seed_alone():
    def places(seed):
        return [(path, mutant.line, mutant.what) for path, _, mutant in sampled("updates", 20, seed)]

    assert places(1) == places(1) != places(2)
    assert all(sampled(package, 5, 1) for package in PACKAGES)
