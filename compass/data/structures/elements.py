"""Chemical elements of protein-file atoms: given by the file, by the residue, or guessed from a name.

A residue decides before a name does: `CA` is carbon in alanine and calcium in a residue of one atom. Atom names of larger
residues never become metals only because they begin with two suitable letters.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from compass.data.structures.atom_table import NO_ELEMENT, AtomTable
from compass.units import format_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

ATOMIC_NUMBERS = {gemmi.Element(number).name.upper(): number for number in range(1, 119)} | {"D": 1, "T": 1}
"""Symbol in capitals → atomic number; deuterium and tritium are hydrogen."""

ELEMENTS_FROM_RESIDUES = "elements_from_residues"
"""The repair of elements that contradict the names of standard residues."""

_AMINO_ACIDS = [
    "ALA",
    "ARG",
    "ASN",
    "ASP",
    "CYS",
    "GLN",
    "GLU",
    "GLY",
    "HIS",
    "ILE",
    "LEU",
    "LYS",
    "MET",
    "PHE",
    "PRO",
    "SER",
    "THR",
    "TRP",
    "TYR",
    "VAL",
    "ASH",
    "GLH",
    "HID",
    "HIE",
    "HIP",
    "HSD",
    "HSE",
    "HSP",
    "HISA",
    "HISB",
    "HISH",
    "HISD",
    "HISE",
    "CYX",
    "CYM",
    "CYS1",
    "CYS2",
    "CYSH",
    "LYN",
    "LYP",
    "LYSH",
    "ARGN",
    "ASPH",
    "GLUH",
    "ACE",
    "NME",
    "NMA",
    "NH2",
    "NHE",
]
_NUCLEOTIDES = [
    "A",
    "C",
    "G",
    "U",
    "T",
    "I",
    "DA",
    "DC",
    "DG",
    "DT",
    "DU",
    "DI",
    "ADE",
    "CYT",
    "GUA",
    "THY",
    "URA",
    "RA",
    "RC",
    "RG",
    "RU",
    "A3",
    "A5",
    "C3",
    "C5",
    "G3",
    "G5",
    "U3",
    "U5",
]
_NUCLEOTIDES += [f"D{base}{end}" for base in "ACGT" for end in "35"] + [
    f"R{base}{end}" for base in "ACGU" for end in "35"
]
STANDARD = frozenset((*_AMINO_ACIDS, *_NUCLEOTIDES))
"""Residues whose atom names begin with their element's one letter, under the names of PDB, AMBER, CHARMM and GROMACS."""
_TERMINAL = frozenset(f"{end}{name}" for end in "NC" for name in _AMINO_ACIDS if len(name) == 3)  # AMBER's NALA, CALA
WATERS = frozenset(
    [
        "HOH",
        "WAT",
        "DOD",
        "H2O",
        "SOL",
        "TIP",
        "TIP2",
        "TIP3",
        "TIP4",
        "TIP5",
        "TP3",
        "TP4",
        "TP5",
        "TP3M",
        "TP4E",
        "T3P",
        "T4P",
        "SPC",
        "SPCE",
        "OPC",
        "OH2",
        "W",
    ]
)

_IONS = {
    "SOD": "NA",
    "CLA": "CL",
    "POT": "K",
    "CAL": "CA",
    "CES": "CS",
    "CAD": "CD",
    "BAR": "BA",
    "LIT": "LI",
    "RUB": "RB",
    "IP": "NA",
    "IM": "CL",
    "CIO": "NA",
    "CIM": "CL",
    "CIP": "NA",
    "IOD": "I",
    "IUM": "U",
    "OHX": "O",
    "MO1": "MG",
    "MO2": "MG",
    "MO3": "MG",
    "MO4": "MG",
    "MO5": "MG",
    "MO6": "MG",
    "OC1": "CA",
    "OC2": "CA",
    "OC3": "CA",
    "OC4": "CA",
    "OC5": "CA",
    "OC6": "CA",
    "OC7": "CA",
    "NAO": "NA",
    "NA2": "NA",
    "NA5": "NA",
    "NA6": "NA",
    "NAW": "NA",
    "KO4": "K",
    "ZNO": "ZN",
    "ZN3": "ZN",
    "ZO3": "ZN",
    "NIK": "NI",
    "NI1": "NI",
    "NI2": "NI",
    "NI3": "NI",
    "MW1": "MN",
    "MW2": "MN",
    "MW3": "MN",
    "O4M": "MN",
    "MN5": "MN",
    "MN6": "MN",
    "OF1": "FE",
    "OF3": "FE",
    "2OF": "FE",
    "CO5": "CO",
    "OCN": "CO",
    "OCO": "CO",
    "OCL": "CO",
    "OCM": "CO",
    "1CU": "CU",
    "HO3": "HO",
    "YT3": "Y",
    "YB2": "YB",
}
"""Residues of one heavy atom whose names are not symbols: CHARMM's, AMBER's and old ones of the PDB."""
_COFACTOR_METALS = {
    "FE": """HEM HEME HEA HEB HEC HED HEV HEO HAS HDD HDE HIF HEG HME HKL HNI ISW COH FDE FDD FEC MNH MH0 SRM DHE 1FH 522 76R
             SF4 SF3 F3S FES FS1 FS2 FS3 FS4 FSO FSX CLF CFN ICS CFM HC1 HCO FCO NFU NFS NFC FEO FE2 FEL PHO XCC""",
    "MG": "CLA CL0 CL1 CL2 CHL BCL BCB BCT CLB BCA PMG G2O KC1 KC2 MGF MF4",
    "CO": "B12 CNC COB CBY CBL B1Z COY COH 3CO NCO CON",
    "MN": "OEX OEY OEC MNH MNR MP1 HG1",
    "NI": "F43 NFU NFS XCC NFC",
    "ZN": "ZNH HE5 ZEM ZNP",
    "CU": "CUA CUZ CUB CUM HEU",
    "MO": "CFN ICS CFM MOS MOO 4MO 2MO OMO MOM",
    "V": "VO4 VN4 VVO 3V4",
    "W": "W WO4 WO2 KEG",
    "AS": "CAC CAS ART",
    "SE": "MSE CSE SEC PSW SE7",
}
_METALS_OF = {(residue, metal) for metal, residues in _COFACTOR_METALS.items() for residue in residues.split()}
_NO_IONS = {"D", "T"} | {gemmi.Element(number).name.upper() for number in range(99, 119)}
"""Symbols that never name a residue of one atom: isotopes, and elements that no crystal has. NH4 is ammonium, not nihonium."""
_ORGANIC = "HCNOSPFIB"
_HYDROGEN_LIKE = ("H", "D")
_NOT_BONDED_SO_CLOSE = sorted(
    ATOMIC_NUMBERS[symbol]
    for symbol in [
        "HE",
        "NE",
        "AR",
        "KR",
        "XE",
        "RN",
        "NA",
        "K",
        "RB",
        "CS",
        "CA",
        "SR",
        "BA",
        "CD",
        "HG",
        "PB",
        "TL",
        "IN",
        "CE",
        "ND",
        "PR",
        "SM",
        "EU",
        "GD",
        "TB",
        "DY",
        "HO",
        "ER",
        "TM",
        "YB",
        "LU",
        "LA",
        "CO",
        "NI",
        "CU",
        "ZN",
        "AG",
        "AU",
        "SC",
        "Y",
        "TH",
        "PA",
        "U",
        "NP",
        "PU",
        "AM",
        "CM",
        "BK",
        "CF",
        "ES",
        "FM",
        "MD",
        "NO",
        "LR",
        "RF",
        "DB",
        "SG",
        "BH",
        "HS",
        "MT",
        "DS",
        "RG",
        "CN",
        "NH",
        "FL",
        "MC",
        "LV",
        "TS",
        "OG",
        "PM",
        "AC",
        "RA",
        "FR",
        "PO",
        "AT",
    ]
)
"""Elements that no other heavy atom comes within `TOO_CLOSE_ANGSTROM` of."""
_IS_ODD = np.zeros(128, np.bool_)
_IS_ODD[_NOT_BONDED_SO_CLOSE] = True
TOO_CLOSE_ANGSTROM = 1.7
MOST_CONTRADICTIONS = 2
"""Real structures of poor resolution have one or two metals too close to their partners."""


def with_elements(table: AtomTable) -> AtomTable:
    """`table` with an atomic number for every atom, 0 where it stays unknown, and a note on those that are guessed."""
    if not len(table):
        return table
    runs = table.runs()
    heavy = ~_looks_like_hydrogen(table)
    alone = np.bincount(runs, weights=heavy)[runs] == 1
    columns = (table.residue_names, table.names, alone & heavy, table.two_letter, table.elements)
    found = [_element_of(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    elements = np.array([element for element, _ in found], np.int64)
    sources = [source for _, source in found]
    described = replace(table, elements=elements)
    notes, repairs = _notes(table, elements, sources)
    return described.noting(*notes, repairs=repairs)


def may_contradict(elements: NDArray[np.int64]) -> bool:
    """Whether any of them is one that light elements never come close to."""
    return bool(_IS_ODD[elements].any())


def too_close(elements: NDArray[np.int64], pairs: NDArray[np.int64]) -> int:
    """How many atoms have an element that contradicts a neighbour within `TOO_CLOSE_ANGSTROM`; `pairs` (m, 2) are those."""
    odd = _IS_ODD[elements]
    heavy = elements > 1
    first, second = pairs.T
    return len({*first[odd[first] & heavy[second]].tolist(), *second[odd[second] & heavy[first]].tolist()})


@cache
def is_standard(residue: str) -> bool:
    """Whether `residue` is a common amino acid or nucleotide under one of its usual names."""
    return residue in STANDARD or residue in _TERMINAL


@cache
def is_polymeric(residue: str) -> bool:
    """The same, or a modified one that gemmi's table of residues knows. UNK may be anything: docking tools call ligands so."""
    if residue == "UNK":
        return False
    listed = gemmi.find_tabulated_residue(residue)
    return is_standard(residue) or listed.is_amino_acid() or listed.is_nucleic_acid()


def _looks_like_hydrogen(table: AtomTable) -> NDArray[np.bool_]:
    bare = np.strings.lstrip(table.names, "0123456789")
    named = np.strings.startswith(bare, "H") | np.strings.startswith(bare, "D")
    named &= table.names != table.residue_names
    return np.asarray(np.where(table.elements == NO_ELEMENT, named, table.elements == 1), np.bool_)


@cache
def _element_of(residue: str, name: str, alone: bool, two_letter: bool, given: int) -> tuple[int, str]:  # noqa: FBT001
    """(atomic number, its source): `given`, `residue`, `guess` or `contradiction`."""
    expected = _in_standard_residue(residue, name)
    if expected is not None:
        if given == NO_ELEMENT:
            return expected, "residue"
        return (given, "given") if given == expected else (expected, "contradiction")
    if given != NO_ELEMENT:
        return given, "given"
    if residue in WATERS:
        letter = name.lstrip("0123456789")[:1]
        return {"O": 8, "H": 1, "D": 1}.get(letter, 0), "residue"
    symbol = _ion(residue, name) if alone else _by_name(residue, name, two_letter=two_letter)
    return ATOMIC_NUMBERS.get(symbol, 0), "guess"


def _in_standard_residue(residue: str, name: str) -> int | None:
    """The element that the name has in a standard residue; None elsewhere, and for names such as `AD1`."""
    if not is_standard(residue):
        return None
    letter = name.lstrip("0123456789")[:1]
    return {"C": 6, "N": 7, "O": 8, "S": 16, "P": 15, "H": 1, "D": 1}.get(letter)


def _ion(residue: str, name: str) -> str:
    """The symbol of a residue's only heavy atom."""
    if residue in _IONS:
        return _IONS[residue]
    if is_polymeric(residue) and name != residue:  # a chain of which only the Cα atoms are there
        return _by_name(residue, name, two_letter=False)
    for text in (residue, name):
        bare = text.upper().strip("0123456789+-*'\"")
        if bare in ATOMIC_NUMBERS and bare not in _NO_IONS:
            return bare
    return _by_name(residue, name, two_letter=False)


def _by_name(residue: str, name: str, *, two_letter: bool) -> str:
    """The symbol that an atom's name begins with in a residue of several heavy atoms; empty if there is none."""
    bare = name.upper().lstrip("0123456789'\"*")
    pair, letter = bare[:2], bare[:1]
    if (residue, pair) in _METALS_OF and not bare[2:].strip("0123456789"):
        return pair
    if (residue, letter) in _METALS_OF:
        return letter
    if pair in {"CL", "BR"}:
        return pair
    if letter in _ORGANIC or letter == "D":
        clear = two_letter and pair in {"FE", "SE", "SI"} and not bare[2:].strip("0123456789")
        return pair if clear else letter
    if letter == "A" and pair[1:] in {"C", "N", "O", "P", "H"}:  # the adenine half of NAD in old files
        return pair[1:]
    # No organic element begins so: M is none, and MG, MN or MO is meant.
    return pair if pair in ATOMIC_NUMBERS and letter not in {"K", "V", "W", "U", "Y"} else letter


def _notes(
    table: AtomTable, elements: NDArray[np.int64], sources: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    notes: list[str] = []
    counts = Counter(sources)
    n_residue = counts["residue"]
    if n_residue:
        notes.append(f"no element column: {format_count(n_residue)} elements follow from residue and atom names")
    for source, words in (
        ("guess", "elements guessed from names"),
        ("contradiction", "elements contradict standard residues"),
    ):
        if counts[source]:
            marked = [i for i, own in enumerate(sources) if own == source]
            named = Counter(
                f"{table.residue_names[i]} {table.names[i]} is {gemmi.Element(int(elements[i])).name}" for i in marked
            )
            shown = ", ".join(text for text, _ in named.most_common(5))
            notes.append(f"{words}: {format_count(len(marked))} ({shown}{' …' if len(named) > 5 else ''})")
    repairs = (ELEMENTS_FROM_RESIDUES,) if counts["contradiction"] else ()
    return tuple(notes), repairs
