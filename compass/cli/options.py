"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

STAGES_TEXT = "smoke_test, prototyping, validation, production"
"""The stages, which help names without loading the records."""
FAMILY_NAMES = ("visnet", "schnet", "dimenet++", "gps")
"""The built-in model families, which help names without loading them; the first is the default."""


def stages(incomplete: str) -> list[str]:
    """The stages that begin with `incomplete`, for a shell that completes a word."""
    return [name for name in STAGES_TEXT.split(", ") if name.startswith(incomplete)]


def stage_option(says: str) -> Any:
    """The flag of every command that takes stages by position too: one, several with commas, or repeated."""
    return typer.Option("--stage", "--stages", metavar="STAGE,…", help=says, autocompletion=stages)


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="File with settings: .py, .toml, .yaml or .json, or a pyproject.toml with \\[tool.compass]. See `compass config`.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. stages.prototyping.target_s=30min."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="Torch device, e.g. cuda:1 or cpu. Default: an accelerator if there is one."),
]
MemoryLimitOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory limit: the most that training may use, e.g. 6GiB. It is enforced."),
]
WorkloadOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help=f"Model family ({', '.join(FAMILY_NAMES)}), package.module:factory or file.py:factory."
    ),
]
NamedWorkloadOption = Annotated[
    str | None,
    typer.Option("--workload", metavar="NAME", help="The workload's code, which you trust: as the profile names it."),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Run the code that the profile or checkpoint names, although you never named it."),
]
DatasetOption = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Dataset: a PDBbind-style folder, or a CSV or Parquet manifest."),
]
IndexOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Index file of the dataset. Default: searched for in the folder.")
]
DatasetSizeOption = Annotated[
    str | None,
    typer.Option(metavar="N", help="Number of complexes, or other samples, in your dataset, e.g. 19000 or 19k."),
]
WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STAGE|PROFILE",
        help=f"A stage ({STAGES_TEXT}) and a profile. Default: hardware_profile.json.",
        show_default=False,
        autocompletion=stages,
    ),
]
StagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STAGE", help=f"Stages to plan: {STAGES_TEXT}. Default: all.", show_default=False, autocompletion=stages
    ),
]
ProfileOption = Annotated[
    Path | None, typer.Option("--profile", metavar="FILE", help="Profile to read. Default: hardware_profile.json.")
]
ProfileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="PROFILE", help="Profile. Default: hardware_profile.json.", show_default=False),
]
ProteinOption = Annotated[str | None, typer.Option(metavar="FILE", help="Protein of the sample complex: PDB or mmCIF.")]
LigandOption = Annotated[str | None, typer.Option(metavar="FILE", help="Ligand of the sample complex: SDF or MOL2.")]
NameOption = Annotated[str | None, typer.Option(metavar="NAME", help="Name of the sample complex, e.g. 1jmf.")]
PocketRadiusOption = Annotated[
    str | None, typer.Option(metavar="Å", help="Keep protein atoms within this distance of the ligand; none keeps all.")
]
MaxAtomsOption = Annotated[int | None, typer.Option(metavar="N", help="Refuse complexes with more atoms.")]
CacheOption = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of cached probes and scans.")]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")]
