"""One file with all modules of the agent, compiled; `guest.agent.bundle` loads them out of it."""

from __future__ import annotations

import ast
import marshal
import os
from collections.abc import Iterable, Iterator

from guest.build.errors import BuildError
from guest.build.tree import File, Tree

_WITHOUT_DOCSTRINGS = 2
"""As `compile` has it; nor are there any assert statements then, which are for the type checker here."""


def bundle(sources: Tree, directory: str, extensions: Iterable[str]) -> bytes:
    """The modules of a tree with Python sources below `directory`, and extension modules, by their paths in the guest.

    Raises `BuildError` for a source that does not compile.
    """
    trees: dict[str, tuple[str, bool, ast.Module]] = {}
    for path, node in sorted(sources.items()):
        if isinstance(node, File):
            name, is_package = _module_name(path.removeprefix(f"{directory}/"))
            trees[name] = f"/{path}", is_package, _parse(node.content, f"/{path}")
    libraries = {os.path.basename(path).partition(".")[0]: f"/{path}" for path in sorted(extensions)}
    modules = {
        name: (
            path,
            is_package,
            compile(tree, path, "exec", dont_inherit=True, optimize=_WITHOUT_DOCSTRINGS),
            [imported for imported in _imports(tree) if imported in trees or imported in libraries],
        )
        for name, (path, is_package, tree) in trees.items()
    }
    return marshal.dumps(modules | {name: (path, False, None, []) for name, path in libraries.items()})


def _module_name(path: str) -> tuple[str, bool]:
    """The name of the module that lies at this place below an entry of sys.path, and whether it is a package."""
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__"), name.endswith(".__init__")


def _parse(source: bytes, path: str) -> ast.Module:
    try:
        tree = ast.parse(source, path)
    except (SyntaxError, ValueError) as error:
        raise BuildError(f"{path} does not compile: {error}") from None
    _WithoutTypes().visit(tree)
    return ast.fix_missing_locations(tree)


class _WithoutTypes(ast.NodeTransformer):
    """Leaves out what is there for the type checker alone: a tenth of the code, all of which is read at each start."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(statement) for statement in node.orelse]
        return self.generic_visit(node)


def _imports(tree: ast.Module) -> Iterator[str]:
    """What the module imports when it is loaded, in this order; names that are no modules may be among it."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
