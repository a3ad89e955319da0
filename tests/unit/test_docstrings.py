"""What docstrings refer to exists, also in modules without a page on the site."""

import ast
import re
from functools import cache

from tests.support import ROOT

ROLE = re.compile(r":(?:func|class|meth|data|attr|mod|exc):`~?([\w.]+)`")
ROOMS = ("features", "models", "serving", "pipelines")
FILES = [ROOT / "vigil/interface.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "vigil" else ("vigil", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_of(path): ast.parse(path.read_text()) for path in FILES}


def bound(body):
    """Return the names that statements bind, those inside conditions included, and what attributes of ``self`` are set."""
    names = set()
    for statement in body:
        for node in ast.walk(statement) if not isinstance(statement, ast.ClassDef) else [statement]:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.alias):
                names.add((node.asname or node.name).split(".")[0])
    return names


@cache
def top_names(module):
    return bound(TREES[module].body)


@cache
def members(module):
    """Return the members of each class of a module."""
    return {node.name: bound(node.body) for node in ast.walk(TREES[module]) if isinstance(node, ast.ClassDef)}


def exists(target, module, owners):
    """Return whether a name means something in a module, or, in full, in any."""
    if target in TREES:
        return True
    above, _, last = target.rpartition(".")
    if above in TREES:
        return last in top_names(above)
    if above.rpartition(".")[0] in TREES:
        return last in members(above.rpartition(".")[0]).get(above.rpartition(".")[2], ())
    if above:
        known = {name: own for each in TREES for name, own in members(each).items()} if above in top_names(module) else {}
        return last in known.get(above, ()) or not target.startswith("vigil")
    return target in top_names(module) or any(target in members(module)[owner] for owner in owners)


def references():
    for module, tree in TREES.items():
        inside = {id(node): cls.name for cls in ast.walk(tree) if isinstance(cls, ast.ClassDef) for node in ast.walk(cls)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                owners = {inside[id(node)]} if id(node) in inside else set()
                for target in ROLE.findall(ast.get_docstring(node) or ""):
                    yield target, module, owners


def test_every_name_that_a_docstring_refers_to_exists():
    found = list(references())
    assert len(found) > 200
    assert {(target, module) for target, module, owners in found if not exists(target, module, owners)} == set()
