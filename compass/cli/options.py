"""The options that commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings: a .py, .toml or .json file. See `compass config`."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. stages.prototyping.target_s=1800."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE", help="A torch device such as cuda:1 or cpu. Default: the preferred one of this machine."
    ),
]
MemoryLimitOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="The most memory training may use, e.g. 6GiB. Enforced.")
]
WorkloadOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="A model family, package.module:factory or file.py:factory.")
]
DatasetOption = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Your complexes: a PDBbind-style folder, or a CSV or Parquet manifest."),
]
IndexOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Their index file. Default: looked for in the folder.")
]
DatasetSizeOption = Annotated[int | None, typer.Option(metavar="N", help="Complexes in your dataset.")]
ProteinOption = Annotated[str | None, typer.Option(metavar="FILE", help="Your own complex: PDB or mmCIF.")]
LigandOption = Annotated[str | None, typer.Option(metavar="FILE", help="Its ligand: SDF or MOL2.")]
NameOption = Annotated[str | None, typer.Option(metavar="NAME", help="What to call it, e.g. 1jmf.")]
PocketRadiusOption = Annotated[
    str | None, typer.Option(metavar="Å", help="Keep the protein this near the ligand; none: all of it.")
]
MaxAtomsOption = Annotated[int | None, typer.Option(metavar="N", help="Refuse a complex with more atoms.")]
CacheOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where probes and scans are kept for next time.")
]
AsJsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]
