"""The folder that `compass demo` writes: a dataset, the same as a manifest, complexes without labels, and a custom workload."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN
from compass.demo.crops import CutComplex, cut_crops
from compass.errors import InputError
from compass.files import replacing, unwritable

FILES = Path(__file__).parent / "files"
NEW_EVERY = 5
"""One crop in so many goes to the complexes without labels."""
SPLIT_TURNS = ("train",) * 8 + ("val", "test")
"""The manifest's column `split`, by turns."""
INDEX = "pdbbind/index/INDEX_demo_PL_data.2001"
INDEX_HEAD = """\
# Complexes cut out of PDB entry 1IA1. The labels are synthetic: they count contacts and were not measured.
# code, resolution, year, -logKd, Kd // reference (ligand)
"""
UNITS = (("pM", 12), ("nM", 9), ("uM", 6), ("mM", 3))
"""Units of a concentration: 10 to the minus so many mol/L."""
COMMANDS = (
    ("compass doctor --dataset pdbbind/", "is this machine ready?"),
    ("compass scan pdbbind/", "which complexes are usable"),
    ("compass optimize --dataset pdbbind/", "a plan for each stage, in some minutes"),
    ("compass report", "hardware_report.html: the plans and their reasons"),
    ("compass train --stage prototyping --cycles 1", "train, in runs/prototyping"),
    ("compass predict runs/prototyping/checkpoints/best.ckpt new_complexes/ --csv predictions.csv", "predict"),
    ("compass verify", "do the plans still hold?"),
    ("compass workload check my_model.py:Transformer", "does the cost model apply to this workload?"),
)
"""(command, what it does), in the order in which a newcomer types them."""
COMMAND_WIDTH = 46
"""Where comments begin; one command is longer."""
README = """\
A small dataset to try Compass on, written by `compass demo`.

pdbbind/           {n_labelled} complexes and their index, laid out like PDBbind
complexes.csv      the same complexes as a manifest, with a column `split`
new_complexes/     {n_new} complexes without labels, to predict
1ia1_*             one complex: the whole protein and its ligand
train.py           a training script of a transformer, without Compass
my_model.py        the workload made from it

In this folder, type:

{commands}

1ia1 is the complex of dihydrofolate reductase from the Protein Data Bank (wwPDB, CC0 1.0). In the others, two or three
residues of its chain A are the ligand, and the residues around them the protein. Geometry and sizes are real. The labels are
synthetic: they count contacts between elements. A model trained here says nothing about real affinities.
"""


@dataclass(frozen=True)
class Demo:
    """What was written."""

    folder: Path
    n_labelled: int
    n_new: int
    n_files: int
    n_bytes: int


def write_demo(folder: Path, *, force: bool = False) -> Demo:
    """Write the demo into `folder`, which is made if it is not there. Every call writes the same bytes; takes a few seconds.

    Args:
        folder: a new or an empty folder.
        force: write into a folder with files in it too. Files of the demo are replaced, others stay.

    Raises:
        InputError: the folder is not empty, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not force and any(folder.iterdir()):
            raise InputError(
                f"folder {folder}",
                got="files in it",
                expected="a new or an empty folder",
                fix="Choose another one, or write into it with --force.",
            )
        crops = cut_crops()
        new = crops[NEW_EVERY::NEW_EVERY]
        labelled = [crop for crop in crops if crop not in new]
        files = _files(labelled, new)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, durable=False) as file:
                file.write(content)
    except OSError as error:
        raise unwritable(folder, error, "DIR") from error
    return Demo(folder, len(labelled), len(new), len(files), sum(map(len, files.values())))


def _files(labelled: Sequence[CutComplex], new: Sequence[CutComplex]) -> Mapping[str, bytes]:
    """Path below the folder → content."""
    commands = "\n".join(f"    {command:<{COMMAND_WIDTH}}  # {what}" for command, what in COMMANDS)
    texts = {
        "README.txt": README.format(n_labelled=len(labelled), n_new=len(new), commands=commands),
        INDEX: INDEX_HEAD + "".join(map(_index_line, labelled)),
        "complexes.csv": _manifest(labelled),
        "train.py": (FILES / "train.py.txt").read_text(encoding="utf-8"),
        "my_model.py": (FILES / "my_model.py.txt").read_text(encoding="utf-8"),
    }
    for place, crops in (("pdbbind", labelled), ("new_complexes", new)):
        for crop in crops:
            protein, ligand = _paths(place, crop)
            texts[protein], texts[ligand] = crop.protein, crop.ligand
    return {
        **{name: text.encode() for name, text in texts.items()},
        "1ia1_protein.pdb": gzip.decompress(EMBEDDED_PROTEIN.read_bytes()),
        "1ia1_ligand.sdf": EMBEDDED_LIGAND.read_bytes(),
    }


def _paths(place: str, crop: CutComplex) -> tuple[str, str]:
    stem = f"{place}/{crop.name}/{crop.name}"
    return f"{stem}_protein.pdb", f"{stem}_ligand.sdf"


def _index_line(crop: CutComplex) -> str:
    """A line as in PDBbind's index, with the resolution and the year of 1IA1."""
    unit, exponent = next(found for found in UNITS if crop.pk > found[1] - 3)
    return f"{crop.name}  1.70  2001  {crop.pk:.2f}  Kd={10 ** (exponent - crop.pk):.3g}{unit} // 1ia1.pdf ({crop.residues})\n"


def _manifest(crops: Sequence[CutComplex]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "protein", "ligand", "label", "split"])
    for place, crop in enumerate(crops):
        writer.writerow([crop.name, *_paths("pdbbind", crop), f"{crop.pk:.2f}", SPLIT_TURNS[place % len(SPLIT_TURNS)]])
    return text.getvalue()
