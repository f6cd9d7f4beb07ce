"""Check the distributions in a folder: `python scripts/check_distributions.py dist`.

The wheel must hold the whole package with its data, and nothing else; the source distribution all that a wheel is built from.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "compass"
BESIDE = ("pyproject.toml", "README.md", "LICENSE")
"""What the source distribution holds beside the package."""


def main(dist: Path, checkout: Path) -> str:
    """What is missing from the distributions in `dist`, or too much in them; an empty text if they are whole."""
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    package = package_files(checkout)
    found = wheel_files(wheel)
    inside = {name for name in found if name.startswith(f"{PACKAGE}/")}
    about = found - inside
    licence = {name for name in about if name.endswith(".dist-info/licenses/LICENSE")}
    findings = {
        f"not in {wheel.name}": package - inside | (set() if licence else {"LICENSE"}),
        f"too much in {wheel.name}": inside - package | {name for name in about if ".dist-info/" not in name},
        f"not in {source.name}": (package | set(BESIDE)) - source_files(source),
    }
    return "\n".join(f"{where}: {', '.join(sorted(names))}" for where, names in findings.items() if names)


def package_files(checkout: Path) -> set[str]:
    """Every file of the package in the checkout, compiled ones excepted."""
    files = (path for path in (checkout / PACKAGE).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(checkout).as_posix() for path in files}


def wheel_files(wheel: Path) -> set[str]:
    """The names in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def source_files(source: Path) -> set[str]:
    """The names in a source distribution, without its top folder."""
    with tarfile.open(source) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(__file__).parents[1]) or None)
