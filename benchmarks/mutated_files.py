"""The files of a complex as lines, the register of the mutations that spoil them, and the judge of the tests."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[1] / "tests" / "unit" / "data" / "files"
"""The good files of the tests."""


def _judge_of_the_tests() -> Any:
    """The judge, by its path: a folder of tests is no package."""
    spec = spec_from_file_location("judge", FILES.with_name("judge.py"))
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tests/unit/data/judge.py")
    module = sys.modules["judge"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


judge_module = _judge_of_the_tests()
judge, sdf_atoms = judge_module.judge, judge_module.sdf_atoms
Judged = Any
"""The judge's atoms of a complex."""
Atom = tuple[str, float, float, float]


@dataclass(frozen=True)
class Pair:
    """The two files of a complex."""

    protein: list[str]
    ligand: list[str]
    ligand_name: str = "l.sdf"
    protein_name: str = "p.pdb"
    more: tuple[Atom, ...] = ()
    """(symbol, x, y, z) of the protein atoms that a mutation adds and that count."""


Mutation = Callable[[Pair, random.Random], Pair]
MUTATIONS: dict[str, Mutation] = {}
"""Name → mutation. A mutation returns other files of the same complex, or of one that is spoilt for good."""


def mutation(function: Mutation) -> Mutation:
    """Register a mutation under its name."""
    MUTATIONS[function.__name__] = function
    return function


def atom_lines(lines: list[str]) -> list[int]:
    """The numbers of the atom lines."""
    return [i for i, line in enumerate(lines) if line.startswith(("ATOM", "HETATM"))]


def each_atom(pair: Pair, change: Callable[[str], str]) -> Pair:
    """The same with every atom line changed."""
    return replace(
        pair, protein=[change(line) if line.startswith(("ATOM", "HETATM")) else line for line in pair.protein]
    )


def some_atom(pair: Pair, chance: random.Random, change: Callable[[str], str]) -> Pair:
    """The same with one atom line changed."""
    lines = list(pair.protein)
    i = chance.choice(atom_lines(lines))
    lines[i] = change(lines[i])
    return replace(pair, protein=lines)


def inserted(pair: Pair, place: int, *lines: str) -> Pair:
    """The same with lines before the one at `place`."""
    return replace(pair, protein=[*pair.protein[:place], *lines, *pair.protein[place:]])


def at_end(pair: Pair, *lines: str) -> Pair:
    """The same with lines behind the last atom."""
    return inserted(pair, atom_lines(pair.protein)[-1] + 1, *lines)


def hetatm(name: str, residue: str, number: int, xyz: tuple[float, ...], element: str = "", chain: str = "Z") -> str:
    """An atom line; `name` in its four columns."""
    x, y, z = xyz
    return f"HETATM 9999 {name:4} {residue:>3} {chain}{number:4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}"


def near_ligand(pair: Pair, chance: random.Random, shift: float) -> tuple[float, ...]:
    """A place beside one of the ligand's atoms."""
    _, *xyz = chance.choice(sdf_atoms("\n".join(pair.ligand)))
    return tuple(value + chance.choice((-1, 1)) * shift for value in xyz)


def spoilt_number(number: str, chance: random.Random) -> str:
    """A number of the same width that is none."""
    width = len(number)
    return chance.choice([
        number.replace(".", ","), " " * width, "*" * width, number.replace(".", " "), "nan".rjust(width), "1.0D+01".rjust(width),
        f"{number[:-1]}x", "?".rjust(width), number.replace(".", "..")[-width:], "0x1A".rjust(width), "1_0.000".rjust(width),
    ])  # fmt: skip
