"""The mutants of a module: for each of them one small mistake in its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Mod: ast.Mult,
}
_NO_BEHAVIOUR = frozenset({"debug", "info"})
"""Messages that are for developers."""


@dataclass(frozen=True)
class Mutant:
    """A wrong program: in `parent`, `value` stands at `field` (and `place`, if that is a list)."""

    parent: ast.AST
    field: str
    place: int | None
    value: Any
    line: int
    what: str

    def source(self, tree: ast.Module) -> str:
        """The source of `tree`, of which `parent` is a part, with the mistake."""
        right = getattr(self.parent, self.field)
        wrong = self.value if self.place is None else [*right[: self.place], self.value, *right[self.place + 1 :]]
        setattr(self.parent, self.field, wrong)
        try:
            return ast.unparse(ast.fix_missing_locations(tree))
        finally:
            setattr(self.parent, self.field, right)


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its source; annotations, decorators and texts have none."""
    for parent, field, place, node in _nodes(tree):
        for value, what in _mistakes(node):
            yield Mutant(parent, field, place, value, node.lineno, f"{ast.unparse(node)[:70]} → {what}")


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, Any]]:
    for field, value in ast.iter_fields(tree):
        if field in {"annotation", "returns", "decorator_list", "bases"}:
            continue
        for place, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST):
                if isinstance(node, ast.expr | ast.stmt):
                    yield tree, field, place, node
                yield from _nodes(node)


def _mistakes(node: ast.expr | ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    """(what stands in the place of `node`, in words)."""
    for make in (_operators, _values, _statements):
        yield from make(node)


def _operators(node: ast.expr | ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    match node:
        case ast.Compare(left, [first, *ops], comparators):
            for other in _COMPARED[type(first)]:
                yield ast.Compare(left, [other(), *ops], comparators), other.__name__
        case ast.BinOp(left, op, right) if type(op) in _COMPUTED:
            yield ast.BinOp(left, _COMPUTED[type(op)](), right), _COMPUTED[type(op)].__name__
        case ast.AugAssign(target, op, value) if type(op) in _COMPUTED:
            yield ast.AugAssign(target, _COMPUTED[type(op)](), value), _COMPUTED[type(op)].__name__
        case ast.BoolOp(op, values):
            joined = ast.And() if isinstance(op, ast.Or) else ast.Or()
            yield ast.BoolOp(joined, values), type(joined).__name__
        case ast.UnaryOp(ast.Not(), operand):
            yield operand, "without not"


def _values(node: ast.expr | ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    match node:
        case ast.Constant(bool(value)):
            yield ast.Constant(not value), str(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1), str(value + 1)


def _statements(node: ast.expr | ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    """Statements that may be missing, except messages for developers."""
    match node:
        case ast.Expr(ast.Call(ast.Attribute(attr=name))) if name in _NO_BEHAVIOUR:
            return
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass(), "removed"
