"""Facts of a release that stand in two places."""

import re
import tomllib
from pathlib import Path

from compass.version import __version__

ROOT = Path(__file__).parents[2]


def test_the_citation_names_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_security_notes_name_the_ranges_that_are_in_force():
    """Each package in the table of advisories has the floor that pyproject.toml gives it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    wanted = {
        *project["project"]["dependencies"],
        *project["build-system"]["requires"],
        *(w for e in extras for w in e),
    }
    table = re.findall(
        r"^\| (\S+)[^|]*\| `(>=[^`]+)` \|", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert table
    assert {f"{name}{floor}" for name, floor in table} <= wanted


def test_every_page_of_the_docs_is_in_the_sites_navigation():
    docs = ROOT / "docs"
    listed = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
