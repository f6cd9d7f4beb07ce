"""Indices, manifests, file names and folders as people really have them; what is right follows from how they are made."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from compass.data.scan.listing import Listed, Listing
from compass.data.scan.manifest import list_manifest
from compass.data.scan.tree import list_tree
from compass.errors import InputError
from compass.optimizer_config import DatasetRules

MOLAR = {"fM": -15, "pM": -12, "nM": -9, "uM": -6, "mM": -3, "M": 0}
TURNED = {"=": "=", "<": ">", ">": "<", "~": "~", "<=": ">", ">=": "<", "=~": "~"}
"""Relation of a concentration → of its pK."""
Label = tuple[str, float]
"""(relation, pK)."""


@dataclass
class Dataset:
    """Files of a dataset, and the complexes that they hold."""

    files: dict[str, str] = field(default_factory=dict)
    """Path → text."""
    right: dict[tuple[str, str], Label | None] = field(default_factory=dict)
    """(protein file, ligand file) → label."""
    manifest: str = ""

    def add(self, protein: str, ligand: str, label: Label | None = None) -> None:
        """A complex with its files."""
        self.files |= {protein: "protein", ligand: "ligand"}
        self.right[protein, ligand] = label


DatasetMutation = Callable[[random.Random], Dataset]
DATASETS: dict[str, DatasetMutation] = {}


def dataset(function: DatasetMutation) -> DatasetMutation:
    """Register a dataset under its name."""
    DATASETS[function.__name__] = function
    return function


def code(chance: random.Random) -> str:
    """A PDB code."""
    return str(chance.randint(1, 9)) + "".join(chance.choice("abcdefghijkmnpqrstuvwxyz0123456789") for _ in range(3))


def codes(chance: random.Random, n: int) -> list[str]:
    """Up to `n` PDB codes, no two alike, in random order."""
    found = sorted({code(chance) for _ in range(2 * n)})
    chance.shuffle(found)
    return found[:n]


def _measured(chance: random.Random) -> tuple[str, Label]:
    """Binding data and the label in them."""
    value, unit = chance.choice(["49", "4.9", "0.5", "1.", "250", "3e2"]), chance.choice(["pM", "nM", "uM", "mM"])
    sign = chance.choice(list(TURNED))
    blank = chance.choice(["", "", "", " "])
    text = f"{chance.choice(['Kd', 'Ki', 'IC50'])}{sign}{value}{blank}{unit}"
    return text, (TURNED[sign], -math.log10(float(value)) - MOLAR[unit])


def _spoilt_data(text: str, chance: random.Random) -> str:
    """Binding data that say something else, or nothing."""
    return chance.choice([
        text.replace("M", "m"), text.replace("=", " is "), text[:-2], f"{text};Ki=3nM", text.replace("K", "k"), text + "/2",
        text.replace(".", ","), f"{text}-{text[-4:]}", "Kd=0nM", "n.d.", f"p{text}", text.replace("IC", "EC"),
    ])  # fmt: skip


def _line(name: str, data: str, pk: str, chance: random.Random) -> str:
    """A line of a PDBbind index."""
    resolution = chance.choice(["2.10", ".86", "NMR", "1.5", "2.", "10.2"])
    gap = chance.choice([" ", "  ", "    ", "\t"])
    reference = chance.choice(["// 1abc.pdf (LIG)", "//x.pdf (2-mer) covalent complex", "// x", ""])
    remark = chance.choice(["", "", "isomer", "(ABC)"]) if not reference else ""
    shown = chance.choice([name, name, name.upper()])
    parts = [shown, resolution, str(chance.randint(1980, 2020)), pk, data, reference, remark]
    return gap.join(part for part in parts if part)


def _pair(found: Dataset, name: str, label: Label | None, folder: str = "") -> None:
    place = f"{folder}{name}/{name}"
    found.add(f"{place}_protein.pdb", f"{place}_ligand.sdf", label)


@dataset
def index_lines(chance: random.Random) -> Dataset:
    """Every form of a line; some lines have a pK column that agrees, some say nothing that can be read."""
    found, lines = Dataset(), []
    with_pk = chance.random() < 0.5
    for name in codes(chance, 4):
        data, label = _measured(chance)
        given = _spoilt_data(data, chance) if chance.random() < 0.2 else data
        _pair(found, name, None if given != data and not with_pk else label)
        lines.append(_line(name, given, f"{label[1]:.2f}" if with_pk else "", chance))
    head = chance.choice([["# PDB code, resolution, release year, -logKd/Ki, Kd/Ki, reference"], ["# ===="], []])
    found.files["INDEX_general_PL_data.2020"] = chance.choice(["\n", "\r\n"]).join([*head, *lines, ""])
    return found


@dataset
def index_folder(chance: random.Random) -> Dataset:
    """PL, NL, PN and PP files together, and the R factors of all codes."""
    found = Dataset()
    kinds = ("PL_data", "NL", "PN", "PP")
    lines: dict[str, list[str]] = {kind: [] for kind in kinds}
    factors = []
    for name in codes(chance, 8):
        data, label = _measured(chance)
        _pair(found, name, label, chance.choice(["", "v2020/", "refined-set/"]))
        lines[chance.choice(kinds)].append(_line(name, data, "", chance))
        factors.append(
            f"{name}  {chance.uniform(1, 3):.2f}  2015  {chance.choice(['0.213', '-1.000', '0.18'])}  0.25  3.1"
        )
    factors += [f"{name}  2.00  2015  0.200  0.240  2.2" for name in codes(chance, chance.randint(0, 9))]
    place = chance.choice(["index/", "", "index/sub/"])
    found.files |= {f"{place}INDEX_general_{kind}.2020": "\n".join(text) for kind, text in lines.items() if text}
    head = chance.choice(["# PDB code, resolution, year, R-factor, free R-factor\n", ""])
    found.files[f"{place}INDEX_structure.2020"] = head + "\n".join(factors)
    return found


@dataset
def core_set(chance: random.Random) -> Dataset:
    """CASF's list: pK, binding data, the number of a target, no reference."""
    found, lines = Dataset(), ["#code  resl  year  logKa  Ka  target"]
    for number, name in enumerate(codes(chance, 4)):
        data, label = _measured(chance)
        _pair(found, name, label, "coreset/")
        lines.append(f"{name}   2.35  2012   {label[1]:.2f}  {data}   {number}")
    found.files["power_scoring/CoreSet.dat"] = "\n".join(lines)
    return found


@dataset
def index_tables(chance: random.Random) -> Dataset:
    """Tables with other names of columns, delimiters, and relations of their own."""
    found, lines = Dataset(), []
    columns = [chance.choice(["id", "PDB_ID", "pdbid", ""]), chance.choice(["pk", "value", "label", "Affinity"])]
    extra = chance.choice(["", "kd/ki", "relation", "covalent"])
    between = chance.choice(",;\t")
    for name in codes(chance, 4):
        data, (relation, pk) = _measured(chance)
        value = (
            f"{pk:.2f}" if chance.random() < 0.8 else chance.choice(["", "nan", f"{pk:.2f}".replace(".", ":"), "49000"])
        )
        cell = {"kd/ki": data, "relation": relation, "covalent": "True"}.get(extra, "")
        known = extra in {"kd/ki", "relation"}
        says_nothing = value != f"{pk:.2f}" and extra != "kd/ki"
        _pair(found, name, None if says_nothing else (relation if known else "=", pk))
        lines.append(between.join([name, value, *([cell] if extra else [])]))
    head = between.join([*columns, *([extra] if extra else [])])
    found.files["INDEX_table.csv"] = "\n".join([head, *lines, ""])
    return found


@dataset
def names_and_layouts(chance: random.Random) -> Dataset:
    """Words, blanks, extensions and depths."""
    found = Dataset()
    for name in codes(chance, 4):
        own = name + chance.choice(["", "", "\u00a02", "\u3000b", " c", "_A", "__1.A__1.B"])
        protein = chance.choice(["protein", "protein_processed", "protein_fixed", "receptor", "rec", "PROTEIN"])
        ligand = chance.choice(["ligand", "ligand", "lig", "Ligand"])
        join = chance.choice(["_", "_", "-"])
        folder = chance.choice(["", f"{own}/", "flat/", f"v2020/{own}/"])
        ends = (
            chance.choice([".pdb", ".ent", ".cif", ".pdb.gz", ".PDB"]),
            chance.choice([".sdf", ".mol2", ".sdf.gz", ".SDF"]),
        )
        found.add(f"{folder}{own}{join}{protein}{ends[0]}", f"{folder}{own}{join}{ligand}{ends[1]}")
    return found


@dataset
def codes_that_differ_in_case(chance: random.Random) -> Dataset:
    """In one folder, in folders of their own, in a manifest, or halves that complete each other."""
    found = Dataset()
    name = code(chance)[:3] + "x"
    layout = chance.choice(["one folder", "folders", "manifest", "halves", "two ligands"])
    if layout == "halves":
        found.add(f"a/{name.upper()}_protein.pdb", f"a/{name}_ligand.sdf")
    elif layout == "two ligands":
        found.add(f"a/{name}_protein.pdb", f"a/{name}_ligand.sdf")
        found.files[f"a/{name.upper()}_ligand.sdf"] = "another"
    else:
        for own in (f"{name}_A", f"{name}_a"):
            place = f"{own}/" if layout == "folders" else "flat/"
            found.add(f"{place}{own}_protein.pdb", f"{place}{own}_ligand.sdf")
        if layout == "manifest":
            found.manifest = "table.csv"
            found.files["table.csv"] = "id,protein,ligand,label\n" + "".join(
                f"{Path(protein).name[:6]},{protein},{ligand},\n" for protein, ligand in found.right
            )
    return found


@dataset
def ids_given_twice(chance: random.Random) -> Dataset:
    """In two folders, or in a manifest beside ids that look like those of rejected lines."""
    found, name = Dataset(), code(chance)
    if chance.random() < 0.5:
        for folder in ("a/", "b/", "")[: chance.randint(2, 3)]:
            _pair(found, name, None, folder)
        return found
    found.manifest = "table.csv"
    lines: list[str] = []
    for id_ in (name, name, f"{name} (line 3)", f"{name} (line 3) #2", f" {name} ", "\u00a0"):
        files = f"{len(lines)}_protein.pdb", f"{len(lines)}_ligand.sdf"
        found.add(*files, ("=", float(len(lines) + 1)))
        lines.append(f"{id_},{files[0]},{files[1]},{len(lines) + 1}.0")
    found.files["table.csv"] = "\n".join(["id,protein,ligand,label", *lines])
    return found


@dataset
def systems_of_plinder(chance: random.Random) -> Dataset:
    """One complex for each ligand of a system."""
    found, name = Dataset(), f"{code(chance)}__1__1.A__1.C"
    place = chance.choice(["", "systems/", "systems/ab/"]) + name
    protein = f"{place}/{chance.choice(['receptor.pdb', 'receptor.cif', 'system.cif'])}"
    for ligand in ("1.C", "1.D", "1.E")[: chance.randint(1, 3)]:
        found.add(protein, f"{place}/ligand_files/{ligand}.sdf")
    return found


def listing_of(found: Dataset, root: Path) -> Listing | InputError:
    """Write the files and list the complexes, or say why not."""
    for name, text in found.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    try:
        return list_manifest(root / found.manifest) if found.manifest else list_tree(root, DatasetRules())
    except InputError as error:
        return error


def dataset_verdict(found: Dataset, root: Path) -> tuple[str, str]:
    """(`right`, `noted`, `rejected` or `wrong`, what is wrong)."""
    listing = listing_of(found, root)
    if isinstance(listing, InputError):
        return "rejected", str(listing)
    ids = [listed.row.id for listed in listing.complexes]
    if len(set(ids)) < len(ids):
        return "wrong", f"ids twice: {ids}"
    usable = [listed for listed in listing.complexes if listed.row.usable]
    seen = {(listed.proteins[0], listed.ligands[0]): listed for listed in usable}
    strange = seen.keys() - found.right.keys()
    if strange:
        return "wrong", f"a complex of other files: {strange}"
    n_said = len(listing.complexes) - len(usable)
    if len(found.right) > len(seen) + n_said and not any("passed over" in line for line in listing.warnings):
        return "wrong", f"{len(found.right) - len(seen) - n_said} complexes are not mentioned"
    kinds = {_label_verdict(listed, found.right[files], listing) for files, listed in seen.items()}
    if "wrong" in kinds:
        return (
            "wrong",
            f"labels {[(listed.row.id, listed.row.label, listed.row.notes) for listed in usable]}, right {found.right}",
        )
    return ("rejected" if n_said else "noted" if "noted" in kinds else "right"), ""


def _label_verdict(listed: Listed, right: Label | None, listing: Listing) -> str:
    label, row = listed.row.label, listed.row
    same = (label is None) == (right is None) and (
        label is None or right is None or (label.relation == right[0] and abs(label.pk - right[1]) < 0.01)
    )
    if same:
        return "right"
    return "noted" if row.notes or any("not entries" in line for line in listing.warnings) else "wrong"
