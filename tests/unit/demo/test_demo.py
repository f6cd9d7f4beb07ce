"""The folder of `compass demo`: complete, always the same, and read without a fault."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.data.scan.scan import list_source
from compass.data.structures.reading import read_complex
from compass.demo.crops import cut_crops
from compass.demo.writing import COMMANDS, write_demo
from compass.optimizer_config import OptimizerConfig

RULES = OptimizerConfig()
ROOT = Path(__file__).parents[3]
N_LABELLED, N_NEW = 53, 12
HELD_BYTES = 3 * 1024**2


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_all(folder, source):
    listing = list_source(folder / source, RULES.dataset)
    found = {}
    for listed in listing.complexes:
        found[listed.row.id] = listed.row, read_complex(
            listed.row.id, listing.root / listed.proteins[0], listing.root / listed.ligands[0], pocket_radius=8.0,
            max_atoms=25_000, rules=RULES.structures,
        )  # fmt: skip
    return listing, found


def test_every_call_writes_the_same(demo, tmp_path):
    written = write_demo(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(demo)
    assert (written.n_labelled, written.n_new) == (N_LABELLED, N_NEW)
    assert written.n_files == len(contents(demo))
    assert written.n_bytes == sum(map(len, contents(demo).values())) < HELD_BYTES


@pytest.mark.parametrize("source", ["pdbbind", "complexes.csv"])
def test_every_complex_is_read_without_a_note(demo, source):
    listing, found = read_all(demo, source)
    assert listing.warnings == ()
    assert len(found) == N_LABELLED
    for row, complex_ in found.values():
        assert row.usable
        assert row.label is not None
        assert (row.notes, complex_.notes, complex_.repairs) == ((), (), ())


def test_index_and_manifest_agree(demo):
    labels = [
        {row.id: row.label.pk for row, _ in read_all(demo, source)[1].values()}
        for source in ("pdbbind", "complexes.csv")
    ]
    assert labels[0] == pytest.approx(labels[1], abs=0.006)
    assert np.mean(list(labels[1].values())) == pytest.approx(6.4, abs=0.3)


def test_sizes_differ(demo):
    sizes = [len(complex_.elements) for _, complex_ in read_all(demo, "pdbbind")[1].values()]
    assert min(sizes) < 80
    assert max(sizes) > 300


def test_no_ligand_shares_an_atom_with_another(demo):
    places = [
        tuple(position)
        for source in ("pdbbind", "new_complexes")
        for _, complex_ in read_all(demo, source)[1].values()
        for position in complex_.positions[complex_.is_ligand].tolist()
    ]
    assert len(set(places)) == len(places)


def test_new_complexes_have_no_labels(demo):
    listing, found = read_all(demo, "new_complexes")
    assert listing.warnings == ("no index file (INDEX…) found: no complex has a label",)
    assert len(found) == N_NEW
    assert not found.keys() & read_all(demo, "pdbbind")[1].keys()


def test_the_manifest_has_all_three_parts(demo):
    parts = [row.split for row, _ in read_all(demo, "complexes.csv")[1].values()]
    assert {part: parts.count(part) for part in sorted(set(parts))} == {"test": 5, "train": 43, "val": 5}


def test_ligands_are_whole_molecules():
    """One piece each: the peptide bonds are there, and no residue is cut."""
    from rdkit import Chem

    for crop in cut_crops():
        molecule = Chem.MolFromMolBlock(crop.ligand)
        assert molecule is not None
        assert len(Chem.GetMolFrags(molecule)) == 1, crop.name
        assert crop.residues == "TQ3" or 1 <= crop.residues.count("-") <= 2


def test_the_model_is_that_of_the_tutorial_and_the_script_that_of_the_example(demo):
    script = (ROOT / "examples/transformer/train.py").read_text()
    assert (demo / "train.py").read_text() == script.replace("python examples/transformer/train.py", "python train.py")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL)
    assert (demo / "my_model.py").read_text() in blocks


# ------------------------------------------------------------------------------------------------------------- command


def compass(*args):
    return CliRunner().invoke(app, ["demo", *args], catch_exceptions=False)


def test_it_says_what_it_wrote_and_what_to_type(tmp_path):
    folder = tmp_path / "my_demo"
    result = compass(str(folder))
    assert (result.exit_code, result.stderr) == (0, "")
    first, _, *rest = result.stdout.splitlines()
    assert re.fullmatch(
        rf"wrote {folder}: 53 complexes with labels, 12 without, a manifest and a workload; 137 files, \d\.\d\d MiB",
        first,
    )
    assert rest == [
        f"next, as in {folder}/README.txt:",
        f"  cd {folder}",
        *(f"  {command}" for command, _ in COMMANDS),
    ]


def test_the_readme_names_files_that_are_there(demo):
    text = (demo / "README.txt").read_text()
    for command, what in COMMANDS:
        assert re.search(rf"^    {re.escape(command)} +# {re.escape(what)}$", text, re.MULTILINE)
    assert "53 complexes and their index" in text
    assert "12 complexes without labels" in text
    for name in re.findall(r"^(\S+) {2,}", text, re.MULTILINE):
        assert list(demo.glob(name.rstrip("/")))


def test_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "README.txt").write_text("mine")
    (tmp_path / "notes").write_text("mine too")
    result = compass(str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: folder {tmp_path}: got files in it; expected a new or an empty folder. "
        "Choose another one, or write into it with --force.\n"
    )
    assert len(contents(tmp_path)) == 2


def test_force_replaces_only_its_own_files(tmp_path):
    (tmp_path / "README.txt").write_text("old")
    (tmp_path / "notes").write_text("mine")
    assert compass(str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / "README.txt").read_text().startswith("A small dataset")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    result = compass(str(tmp_path / "file" / "demo"))
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: output {tmp_path}/file/demo: got Not a directory; expected a file in a writable folder. "
        "Choose another DIR.\n"
    )
