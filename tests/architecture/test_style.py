"""Names that mean one thing, functions that fit on a screen."""

import ast
from collections import defaultdict
from pathlib import Path

import compass

ROOT = Path(compass.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LONGEST_FUNCTION = 60
MOST_UNFORMATTED = 20

SAME_MEANING = {
    "optimize": "the Python call with keywords, and the story that it calls with a Request",
    "optimize_fleet": "the Python call with keywords, and the story that it calls with a FleetRequest",
    "estimate": "the Python call with keywords, and what it calls with a Request",
    "verify": "the Python call with keywords, and what it calls with a Profile",
}
"""Public names that stand in two modules because they mean the same there, each with its reason."""


def public_names(tree):
    """The names that a module defines at its top level, without leading underscore."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_") and name != "log")


def test_a_public_name_is_defined_once():
    homes = defaultdict(list)
    for path in FILES:
        if path.name != "__init__.py":
            for name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
                homes[name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in homes.items() if len(paths) > 1 and name not in SAME_MEANING}
    assert twice == {}


def test_no_function_is_longer_than_a_screen():
    lengths = {
        f"{path.relative_to(ROOT)}: {node.name}": node.end_lineno - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def test_the_formatter_is_rarely_turned_off():
    assert sum(path.read_text(encoding="utf-8").count("# fmt: skip") for path in FILES) <= MOST_UNFORMATTED
