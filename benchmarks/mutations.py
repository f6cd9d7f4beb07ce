"""Spoils good structure files in the ways of real tools, and looks at what the reader makes of them.

    python -m benchmarks.mutations [--files 20000] [--seed 0]

The mutations are in `mutations_of_proteins.py`, `mutations_of_ligands.py` and `mutations_of_datasets.py`.
Every mutated file must be read right, be repaired or read with a note, or be rejected with a reason. A complex that is read
without a note and is wrong is the one thing that must not happen, and a crash of the reader. Right is what the judge in
`tests/unit/data/judge.py`, which shares no code with the reader, finds in the unspoilt files; for indices, names and folders,
what they were made from. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import gemmi

from benchmarks import mutations_of_ligands, mutations_of_proteins
from benchmarks.mutated_files import FILES, MUTATIONS, Judged, Pair, judge, judge_module, sdf_atoms
from benchmarks.mutations_of_datasets import DATASETS, dataset_verdict
from compass.data.structures.complexes import Complex
from compass.data.structures.reading import read_complex
from compass.data.structures.structure_file import StructureError
from compass.optimizer_config import StructureRules

RADIUS = 8.0
SHOWN = 20
"""Most failures that are printed."""
NAMES = (*MUTATIONS, *DATASETS)
"""All mutations. Those of proteins and ligands register themselves."""
__all__ = ["NAMES", "mutations_of_ligands", "mutations_of_proteins", "run", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """What became of one mutated complex."""

    kind: str
    """`right`, `noted`, `rejected`, `wrong` or `crashed`."""
    detail: str = ""


def bases() -> list[Pair]:
    """The good complexes: a cut of 1bju, and pockets of those in the posebusters wheel."""
    found = [
        Pair(
            (FILES / "1bju_protein.pdb").read_text().splitlines(), (FILES / "1bju_ligand.sdf").read_text().splitlines()
        )
    ]
    spec = find_spec("posebusters")
    if spec is not None and spec.origin is not None:
        for folder in sorted((Path(spec.origin).parent / "datasets" / "pdb").iterdir()):
            protein = (folder / f"{folder.name}_protein_one_lig_removed.pdb").read_text()
            ligand = (folder / f"{folder.name}_ligand.sdf").read_text()
            found.append(Pair(_near(protein, ligand), ligand.splitlines()))
    return found


def _near(protein: str, ligand: str) -> list[str]:
    """The lines of residues within 12 Å of the ligand's box, so that thousands of files are read in minutes."""
    atoms = sdf_atoms(ligand)
    low, high = ([edge(atom[axis] for atom in atoms) for axis in (1, 2, 3)] for edge in (min, max))
    lines = [line for line in protein.splitlines() if line.startswith(("ATOM", "HETATM"))]
    near = {line[17:27] for line in lines
            if all(low[i] - 12 < float(line[30 + 8 * i : 38 + 8 * i]) < high[i] + 12 for i in range(3))}  # fmt: skip
    return [*(line for line in lines if line[17:27] in near), "END"]


def verdict(pair: Pair, right: Judged, folder: Path) -> Verdict:
    """Read a mutated complex and compare it with what is right."""
    protein, ligand = folder / pair.protein_name, folder / pair.ligand_name
    protein.write_text("\n".join([*pair.protein, ""]), newline="")
    ligand.write_text("\n".join([*pair.ligand, ""]), newline="")
    try:
        found = read_complex("x", protein, ligand, pocket_radius=RADIUS, max_atoms=25_000, rules=StructureRules())
    except StructureError as error:
        return Verdict("rejected", str(error.reason))
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return Verdict("crashed", f"{type(error).__name__}: {error}")
    if atoms_of(found) == _with_more(right, pair):
        return Verdict("right")
    return Verdict("noted" if found.notes or found.repairs else "wrong", "; ".join(found.notes))


def _with_more(right: Judged, pair: Pair) -> Judged:
    """What is right with the atoms that a mutation added, as a reader rounds them."""
    return judge_module.Judged(right.protein + judge_module.multiset(list(pair.more)), right.ligand)


def verdict_of_dataset(name: str, chance: random.Random, folder: Path) -> Verdict:
    """Make a dataset, list it and compare."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        try:
            return Verdict(*dataset_verdict(DATASETS[name](chance), Path(root)))
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            return Verdict("crashed", f"{type(error).__name__}: {error}")


def atoms_of(found: Complex) -> Judged:
    """The atoms of a complex as the judge writes them."""
    symbols = [gemmi.Element(int(number)).name.upper() for number in found.elements]
    rows = [
        (symbol, *(round(1000 * float(value)) for value in xyz))
        for symbol, xyz in zip(symbols, found.positions, strict=True)
    ]
    marks = found.is_ligand.tolist()
    return judge_module.Judged(
        Counter(row for row, is_ligand in zip(rows, marks, strict=True) if not is_ligand),
        Counter(row for row, is_ligand in zip(rows, marks, strict=True) if is_ligand),
    )


def run(n_files: int, seed: int, folder: Path) -> tuple[Counter[str], dict[str, Counter[str]], list[str]]:
    """(verdicts, verdicts of each mutation, what went wrong)."""
    chance = random.Random(seed)
    pairs = [(pair, judge("\n".join(pair.protein), "\n".join(pair.ligand), RADIUS)) for pair in bases()]
    totals, failures = Counter[str](), []
    by_mutation: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    for number in range(n_files):
        pair, right = pairs[number % len(pairs)] if number % 3 else pairs[0]
        name = NAMES[number % len(NAMES)]
        state = chance.getrandbits(32)
        own = random.Random(state)
        found = (
            verdict(MUTATIONS[name](pair, own), right, folder)
            if name in MUTATIONS
            else verdict_of_dataset(name, own, folder)
        )
        totals[found.kind] += 1
        by_mutation[name][found.kind] += 1
        if found.kind in {"wrong", "crashed"}:
            failures.append(f"{name} {number} {state}: {found.kind} {found.detail}")
    return totals, by_mutation, failures


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        totals, by_mutation, failures = run(options.files, options.seed, Path(folder))
    for name, counts in by_mutation.items():
        print(f"{name:40}", ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    for line in failures[:SHOWN]:
        print("FAILED", line)
    figures = {"files": options.files, "seed": options.seed, "took_s": round(time.monotonic() - started, 1), **totals}
    print(json.dumps({**figures, "wrong": totals["wrong"], "crashed": totals["crashed"]}))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
