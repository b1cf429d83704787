"""Every program that differs from a given one in one place, as a slip of the pen would have it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

COMPARE = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATE = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


def mutants(cell: str) -> Iterator[tuple[str, str]]:
    """Each mutant of the functions in `cell`: the line that changed, as the mutant has it, and the whole text."""
    tree, seen = ast.parse(cell), {ast.unparse(ast.parse(cell))}
    before, texts = ast.unparse(tree), words_in(tree)
    for place, node in enumerate(ast.walk(tree)):
        if place in texts:
            continue
        for change in range(len(list(changes(node)))):
            other = copy.deepcopy(tree)
            twin = next(one for i, one in enumerate(ast.walk(other)) if i == place)
            list(changes(twin))[change]()
            text = ast.unparse(ast.fix_missing_locations(other))
            if text not in seen:
                seen.add(text)
                yield changed_line(before, text), text


def words_in(tree: ast.AST) -> set[int]:
    """Places of docstrings and of the fixed parts of messages: nobody decides by these."""
    nodes = list(ast.walk(tree))
    texts = [node.value for node in nodes if isinstance(node, ast.Expr)]
    texts += [part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values]
    return {i for i, node in enumerate(nodes) if isinstance(node, ast.Constant) and any(node is text for text in texts)}


def changed_line(before: str, after: str) -> str:
    """The first line in which the two differ, as `after` has it; of a line that is gone, "without: " and the line."""
    old, new = before.splitlines(), after.splitlines()
    place = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    gone = len(new) < len(old)
    return f"without: {old[place].strip()}" if gone else new[place].strip()


def changes(node: ast.AST) -> Iterator:
    """Functions each of which changes `node` in place, in one way."""
    if isinstance(node, ast.Compare):
        yield from (lambda i=i, op=op: node.ops.__setitem__(i, COMPARE[type(op)]()) for i, op in enumerate(node.ops))
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATE:
        yield lambda: setattr(node, "op", OPERATE[type(node.op)]())
        yield lambda: replace(node, node.left)
    elif isinstance(node, ast.AugAssign) and type(node.op) in OPERATE:
        yield lambda: setattr(node, "op", OPERATE[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield lambda: setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        yield from (lambda i=i: node.values.pop(i) for i in range(len(node.values)))
    elif isinstance(node, ast.UnaryOp):
        yield lambda: replace(node, node.operand)
    elif isinstance(node, ast.Constant):
        yield from constants(node)
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.comprehension):
        yield from (lambda i=i: node.ifs.pop(i) for i in range(len(node.ifs)))
    elif isinstance(node, ast.Call):
        yield from calls(node)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        yield lambda: replace(node, node.value)
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list) and not isinstance(node, ast.Module):
            yield from (lambda i=i, block=block: drop(block, i) for i in range(len(block)) if not is_words(block[i]))
    if isinstance(getattr(node, "body", None), list):
        yield from (lambda i=i: unwrap(node.body, i) for i, one in enumerate(node.body) if isinstance(one, ast.With))


def constants(node: ast.Constant) -> Iterator:
    if isinstance(node.value, bool):
        yield lambda: setattr(node, "value", not node.value)
    elif isinstance(node.value, (int, float)):
        yield lambda: setattr(node, "value", node.value + 1)
        yield lambda: setattr(node, "value", -node.value)
    elif isinstance(node.value, str) and node.value and "\n" not in node.value and not node.value.istitle():
        yield lambda: setattr(node, "value", node.value + "x")


def calls(node: ast.Call) -> Iterator:
    yield from (lambda i=i: node.keywords.pop(i) for i in range(len(node.keywords)))
    if len(node.args) >= 2:
        yield lambda: node.args.__setitem__(slice(0, 2), node.args[1::-1])
    if node.args:
        yield lambda: replace(node, node.args[0])  # the call is forgotten
    if isinstance(node.func, ast.Attribute):
        yield lambda: replace(node, node.func.value)  # so is the method


def is_words(statement: ast.stmt) -> bool:
    """A docstring, or a function in a function: dropping it is no slip."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def drop(block: list, place: int) -> None:
    block[place] = ast.Pass()


def unwrap(block: list, place: int) -> None:
    """What stands in a `with` without it."""
    block[place : place + 1] = block[place].body


def replace(node: ast.AST, by: ast.AST) -> None:
    """Make `node` what `by` is."""
    node.__class__ = by.__class__
    fields = dict(vars(by))
    vars(node).clear()
    vars(node).update(fields)
