"""One complex: which of its files are read, what they give, and what becomes of their faults."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys

import pytest

from compass.data.scan.listing import Listed, Listing
from compass.data.scan.reading import Reader, ReadingRules, ReadResult, crashed
from compass.data.scan.replay import listed_complex, replay_complex
from compass.data.scan.rows import Label, Row
from compass.errors import InputError
from compass.files import open_file
from compass.optimizer_config import GraphRules, OptimizerConfig, StructureRules

MOL2 = """@<TRIPOS>MOLECULE
methanol
 2 1 1 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
      1 C1          3.0000    0.0000    4.0000 C.3     1  LIG1        0.0000
      2 O1          4.4000    0.0000    4.1000 O.3     1  LIG1        0.0000
@<TRIPOS>BOND
     1     1     2    1
"""


def make_rules(pocket_radius=8.0, max_atoms=1000, **structures):
    return ReadingRules(StructureRules(**structures), GraphRules(), pocket_radius, max_atoms)


@pytest.fixture
def files(tmp_path, pdb, methanol_at):
    """A good protein and a good ligand in both formats; `None` leaves a file out."""

    def write(**texts):
        good = {"p_pdb": str(pdb if pdb.lines else pdb.peptide()), "l_sdf": methanol_at(), "l_mol2": MOL2}
        for name, text in {**good, **texts}.items():
            if text is not None:
                (tmp_path / name.replace("_", ".")).write_text(text)
        return tmp_path

    return write


def candidate(proteins=("p.pdb",), ligands=("l.sdf", "l.mol2"), **row):
    return Listed(Row(**{"id": "1abc", "status": "ok", **row}), proteins, ligands)


def read(root, what=None, rules=None):
    return Reader(root, rules or make_rules())(what or candidate())


def test_a_good_complex(files):
    reading = read(files())
    assert reading.outcome == ReadResult(
        status="ok", protein="p.pdb", ligand="l.sdf", sizes=(("nodes", 17.0), ("edges", reading.outcome.sizes[1][1]))
    )
    assert reading.lasting
    assert reading.atoms.named("x").n_atoms == 17


def test_a_bad_sdf_gives_way_to_mol2(files):
    root = files(l_sdf="rubbish\n")
    reading = read(root)
    assert (reading.outcome.ligand, reading.outcome.repairs, reading.outcome.notes) == (
        "l.mol2",
        ("ligand_from_mol2",),
        ("l.sdf: got a molecule that ends before its 'M  END'; expected a complete file. Fetch the file again.",),
    )
    row = reading.outcome.completes(candidate(notes=("before",)).row, "k")
    assert (row.status, row.notes[0], row.key) == ("repaired", "before", "k")


def test_a_bad_protein_gives_way_to_the_next(files, pdb):
    root = files(q_pdb="ATOM  broken\n", pocket_pdb=str(pdb.peptide()))
    reading = read(root, candidate(("q.pdb", "p.pdb")))
    assert (reading.outcome.protein, reading.outcome.repairs) == ("p.pdb", ("protein_from_pdb",))
    reading = read(root, candidate(("q.pdb", "pocket.pdb")))
    assert (reading.outcome.protein, reading.outcome.repairs) == ("pocket.pdb", ("pocket_for_protein",))


def test_the_last_fault_is_the_reason_and_the_others_are_noted(files):
    reading = read(files(l_sdf="", l_mol2="@<TRIPOS>MOLECULE\n"))
    assert reading.outcome == ReadResult(
        status="rejected",
        reason="truncated",
        detail="l.mol2: got a molecule that ends before its '@<TRIPOS>BOND'; expected a complete file. "
        "Fetch the file again.",
        notes=("l.sdf: got an empty file; expected an SDF or MOL2 file. Fetch or export the file again.",),
    )
    assert (reading.atoms, reading.lasting) == (None, True)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [(make_rules(max_atoms=5), "too_many_atoms"), (make_rules(pocket_radius=0.5), "empty_pocket")],
)
def test_what_another_file_would_not_cure(files, pdb, rules, reason):
    reading = read(files(pocket_pdb=str(pdb.peptide())), candidate(("p.pdb", "pocket.pdb")), rules)
    assert (reading.outcome.reason, reading.outcome.notes) == (reason, ())


@pytest.mark.parametrize(
    ("radius", "note"),
    [(8.0, ()), (10.0, ()),
     (12.0, ("pocket.pdb: a pocket file, although the rules ask for all atoms within 12 Å of the ligand",)),
     (None, ("pocket.pdb: a pocket file, although the rules ask for the whole protein",))],
)  # fmt: skip
def test_a_pocket_file_may_hold_too_little(files, pdb, radius, note):
    root = files(pocket_pdb=str(pdb.peptide()))
    assert read(root, candidate(("pocket.pdb",)), make_rules(pocket_radius=radius)).outcome.notes == note


def test_a_missing_file_may_come_later(files):
    reading = read(files(p_pdb=None))
    assert (reading.outcome.reason, reading.outcome.detail, reading.lasting) == (
        "missing", "p.pdb: got no such file; expected a PDB or mmCIF file. Check the path.", False,
    )  # fmt: skip


@pytest.mark.parametrize(("error", "lasting"), [(OSError(errno.EIO, "Input/output error"), False), (None, True)])
def test_what_the_system_would_not_open_is_tried_again(files, monkeypatch, error, lasting):
    """Though another file stands in for it."""
    real = open_file

    def opened(path):
        if error is not None and path.suffix == ".sdf":
            raise error
        return real(path)

    root = files(l_sdf="") if error is None else files()
    monkeypatch.setattr("compass.data.structures.structure_file.open_file", opened)
    reading = read(root)
    assert (reading.outcome.ligand, reading.lasting) == ("l.mol2", lasting)


def test_a_path_that_is_none(files):
    outcome = read(files(), candidate(("p\0.pdb",))).outcome
    assert (outcome.status, outcome.reason) == ("rejected", "unreadable")
    assert "got a file that cannot be opened (a name that no file can have); expected" in outcome.detail


def test_an_unforeseen_error_costs_one_complex(files, monkeypatch):
    def fail(*_, **__):
        raise IndexError("list index\nout of range")

    monkeypatch.setattr("compass.data.structures.reading.read_complex", fail)
    assert read(files()) == crashed("reading it ended in IndexError: list index out of range")


# --------------------------------------------------------------------------------------------------------------- keys


def test_the_key_is_the_content(files, pdb):
    root = files()
    key = read(root).key
    assert read(root, candidate(label=Label(pk=6.0), notes=("n",))).key == key  # the label is not in the files
    assert (root / "l.mol2").write_text(MOL2 + "\n")
    other = read(root).key
    assert other != key
    (root / "l.mol2").unlink()
    assert read(root).key not in {key, other}
    (root / "l.mol2").write_text(MOL2)
    assert read(root).key == key


@pytest.mark.parametrize("change", [
    "structures.waters=keep", "graph.cutoff=6.0", "dataset.pocket_radius=6", "dataset.max_atoms=99",
])  # fmt: skip
def test_the_key_changes_with_every_rule(files, change):
    from compass.config_files import load_config

    root = files()
    rules = ReadingRules.of(load_config(None, [change]))
    assert Reader(root, rules).key(candidate()) != Reader(root, ReadingRules.of(OptimizerConfig())).key(candidate())


def test_a_known_key_is_not_read_again(files, monkeypatch):
    root = files()
    key = read(root).key
    monkeypatch.setattr(Reader, "_read", None)
    again = Reader(root, make_rules(), frozenset({key}))(candidate())
    assert (again.key, again.outcome, again.atoms) == (key, None, None)


@pytest.mark.slow
def test_reading_loads_no_torch_and_travels(files):
    root = files()
    reader = pickle.dumps((Reader(root, make_rules()), candidate()))
    code = (
        "import pickle, sys; reader, candidate = pickle.loads(bytes.fromhex(sys.argv[1])); reading = reader(candidate); "
        "assert reading.outcome.status == 'ok', reading; pickle.dumps(reading); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, reader.hex()], check=True)


# ------------------------------------------------------------------------------------------------------------ replay_complex


def replay(root, what, rules=None):
    steps, said = replay_complex(what, root, rules or make_rules()), []
    while True:
        try:
            said.append(next(steps))
        except StopIteration as end:
            return said, end.value


def test_an_autopsy_says_everything(files):
    said, row = replay(files(l_sdf=""), candidate(label=Label(pk=6.0, relation="<", kind="Kd")))
    assert row.status == "repaired"
    sizes = {"p.pdb": "1.19 KiB", "l.mol2": "262 B"}
    assert said == [
        ("id", "1abc"),
        ("label", "pK < 6.00 Kd"),
        ("ligand file", "l.sdf, 0 B"),
        ("  empty", said[3][1]),
        ("ligand file", f"l.mol2, {sizes['l.mol2']}"),
        ("  atoms", "2, 2 of them heavy"),
        ("protein file", f"p.pdb, {sizes['p.pdb']}"),
        ("  atoms", "15, 15 of them kept by the structure rules"),
        ("used", "p.pdb, l.mol2"),
        ("cleaned", "15 protein atoms, 2 ligand atoms"),
        ("pocket", "15 protein atoms within 8 Å, 2 ligand atoms"),
        ("graph", f"17 nodes, {row.sizes[1][1]:.0f} edges"),
        ("repair", "ligand_from_mol2"),
        ("note", "l.sdf: got an empty file; expected an SDF or MOL2 file. Fetch or export the file again."),
        ("outcome", "repaired"),
    ]


def test_an_autopsy_of_what_cannot_be_used(files):
    said, row = replay(files(), candidate(), make_rules(pocket_radius=None, max_atoms=5))
    assert row.reason == "too_many_atoms"
    assert said[-1] == (
        "outcome",
        "rejected, too_many_atoms: p.pdb: got 17 atoms; expected at most max_atoms = 5. "
        "Raise max_atoms, or set a smaller pocket_radius.",
    )


def test_an_autopsy_of_a_fault_far_from_the_ligand(files, pdb):
    """A scan, which cuts the pocket out first, does not see it."""
    pdb.peptide()
    for number in (300, 301):
        pdb.atom("ZN", "ZN", number, (90, 0, 0), element="ZN", het=True)
    said, row = replay(files(), candidate())
    assert "atoms at one place (pairs: 1), the first at (90.000, 0.000, 0.000)" in dict(said)["cleaned"]
    assert row.usable


def test_an_autopsy_shows_where_it_crashed(files, monkeypatch):
    def fail(_):
        raise IndexError("out of range")

    monkeypatch.setattr("compass.data.structures.ligand.read_ligand", fail)
    said, _ = replay(files(), candidate())
    ((_, trace),) = {step for step in said if step[0] == "  crashed"}
    assert trace.startswith("Traceback")
    assert trace.endswith("IndexError: out of range\n")


def test_an_autopsy_of_an_entry_without_files(tmp_path):
    said, row = replay(tmp_path, Listed(Row(id="x", status="rejected", reason="no_files", detail="why")))
    assert said == [("id", "x"), ("label", "none"), ("outcome", "rejected, no_files: why")]
    assert not row.usable


def test_finding_the_one(tmp_path):
    listing = Listing(tmp_path, (candidate(), candidate(id="2XYZ"), candidate(id="2xyz")))
    for asked, found in (("1ABC", "1abc"), ("2XYZ", "2XYZ"), ("2xyz", "2xyz")):
        assert listed_complex(listing, asked).row.id == found
    for asked, fix in (("1abd", "Did you mean 1abc?"), ("what", "Check the id.")):
        with pytest.raises(InputError) as caught:
            listed_complex(listing, asked)
        assert str(caught.value) == f"--only: got {asked!r}; expected one of the 3 ids of {tmp_path}. {fix}"
