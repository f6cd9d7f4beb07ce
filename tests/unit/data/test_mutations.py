"""Good files spoilt at random: never read wrongly without a note. `python -m benchmarks.mutations` does many thousands."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import mutated_files, mutations
from compass.data.structures.reading import read_complex
from compass.optimizer_config import StructureRules


def test_spoilt_files_are_never_wrong_in_silence(tmp_path):
    n_files = 6 * len(mutations.NAMES)
    totals, by_mutation, failures = mutations.run(n_files, seed=7, folder=tmp_path)
    assert failures == []
    assert totals.total() == n_files
    assert {"right", "noted", "rejected"} <= totals.keys()
    assert all(counts.total() == 6 for counts in by_mutation.values())


def test_the_judge_would_notice(tmp_path):
    """A reader that cuts a decimal comma, or doubles an atom, is found out."""
    pair = mutations.bases()[0]
    right = mutated_files.judge("\n".join(pair.protein), "\n".join(pair.ligand), mutations.RADIUS)
    assert mutations.verdict(pair, right, tmp_path).kind == "right"
    for change in (lambda line: line.replace("13.9840", "13.0000"), lambda line: line.replace(" N  ", " C  ")):
        other = mutated_files.Pair(pair.protein, [change(line) for line in pair.ligand])
        assert mutations.verdict(other, right, tmp_path).kind == "wrong"
    fewer = mutated_files.Pair(pair.protein[1:], pair.ligand)
    assert mutations.verdict(fewer, right, tmp_path).kind == "wrong"


@pytest.mark.parametrize("radius", [6.0, 8.0, None])
def test_real_complexes_agree_with_the_judge(wheel_complexes, radius):
    """Atom by atom, with a parser that shares nothing with ours."""
    for protein, ligand in wheel_complexes.values():
        if radius is None and protein.stat().st_size > 1_000_000:
            continue
        found = read_complex("x", protein, ligand, pocket_radius=radius, max_atoms=25_000, rules=StructureRules())
        right = mutated_files.judge(protein.read_text(), ligand.read_text(), radius)
        assert mutations.atoms_of(found) == right
        assert (found.notes, found.repairs) == ((), ())


def test_the_judge_chooses_conformers_by_occupancy():
    line = "ATOM      1  CB {}SER A   1    {:8.3f}   0.000   0.000{:6.2f}  0.00           C  "
    residues = mutated_files.judge_module.pdb_residues(
        "\n".join([line.format("A", 1.0, 0.4), line.format("B", 2.0, 0.6)])
    )
    ((_, atoms),) = mutated_files.judge_module.one_conformer(residues)
    assert mutated_files.judge_module.multiset(atoms) == Counter({("C", 2000, 0, 0): 1})
