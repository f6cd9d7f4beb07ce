"""The options that commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings: a .py, .toml or .json file. See `compass config`."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. stages.prototyping.target_s=1800."),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE", help="A torch device such as cuda:1 or cpu. Default: the preferred one of this machine."
    ),
]
MemoryLimit = Annotated[
    str | None, typer.Option(metavar="SIZE", help="The most memory training may use, e.g. 6GiB. Enforced.")
]
Workload = Annotated[
    str | None, typer.Option(metavar="NAME", help="A model family, package.module:factory or file.py:factory.")
]
Dataset = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Your complexes: a PDBbind-style folder, or a CSV or Parquet manifest."),
]
Index = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Their index file. Default: looked for in the folder.")
]
DatasetSize = Annotated[int | None, typer.Option(metavar="N", help="Complexes in your dataset.")]
Protein = Annotated[str | None, typer.Option(metavar="FILE", help="Your own complex: PDB or mmCIF.")]
Ligand = Annotated[str | None, typer.Option(metavar="FILE", help="Its ligand: SDF or MOL2.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="What to call it, e.g. 1jmf.")]
PocketRadius = Annotated[
    str | None, typer.Option(metavar="Å", help="Keep the protein this near the ligand; none: all of it.")
]
MaxAtoms = Annotated[int | None, typer.Option(metavar="N", help="Refuse a complex with more atoms.")]
Cache = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where probes and scans are kept for next time.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]
