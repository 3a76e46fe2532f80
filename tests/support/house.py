"""Who imports whom in a package, read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path


class Package:
    """The modules of a package.

    Args:
        folder: the package's own, with its `__init__.py`.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.paths = {}
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            self.paths[".".join(parts).removesuffix(".__init__")] = path
        self.trees = {
            module: ast.parse(path.read_text(encoding="utf-8"))
            for module, path in self.paths.items()
        }

    def room(self, module: str) -> str:
        """The folder below the package, or the module itself where it stands in the root."""
        return ".".join(module.split(".")[:2])

    def imported(self, module: str) -> Iterator[tuple[str, str, str]]:
        """Each import of the package's own: (module, the name imported from it, name here).

        Imports for types and inside functions count; a whole module has "" for the name.
        """
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                for name in node.names:
                    if name.name in self.paths:
                        yield name.name, "", name.asname or name.name
            elif isinstance(node, ast.ImportFrom):
                source = self._source(module, node)
                if source not in self.paths:
                    continue
                for name in node.names:
                    here = name.asname or name.name
                    if (whole := f"{source}.{name.name}") in self.paths:
                        yield whole, "", here
                    else:
                        yield source, name.name, here

    def circles(self) -> list[list[str]]:
        """Modules that import each other, over any number of steps.

        The package's own version is no import that counts.
        """
        graph = {
            module: {
                source
                for source, name, _ in self.imported(module)
                if source != module and name != "__version__"
            }
            for module in self.paths
        }
        return [sorted(circle) for circle in _strongly_connected(graph) if len(circle) > 1]

    def private_accesses(self) -> list[str]:
        """Underscore names that a module takes from another room.

        Of an imported module, or of an object: a name that another room defines and this one does
        not, unless the object is torch's or another package's.
        """
        found = []
        owners: dict[str, set[str]] = {}
        for module in self.paths:
            for name in self._defined(module):
                owners.setdefault(name, set()).add(self.room(module))
        for module, tree in self.trees.items():
            others = {}
            for source, name, here in self.imported(module):
                if self.room(source) == self.room(module):
                    continue
                if _is_private(name):
                    found.append(f"{module}: {source}.{name}")
                if not name:
                    others[here] = source
            foreign = self._foreign(module)
            for node in ast.walk(tree):
                if not (isinstance(node, ast.Attribute) and _is_private(node.attr)):
                    continue
                if owner := others.get(ast.unparse(node.value)):
                    found.append(f"{module}: {owner}.{node.attr}")
                    continue
                base = ast.unparse(node.value).partition(".")[0]
                rooms = owners.get(node.attr, set())
                if base not in foreign and rooms and self.room(module) not in rooms:
                    found.append(f"{module}: {ast.unparse(node)} of {', '.join(sorted(rooms))}")
        return found

    def _defined(self, module: str) -> set[str]:
        """Private functions, classes and attributes that it makes."""
        return {
            name
            for node in ast.walk(self.trees[module])
            if (
                name := node.name
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                else node.attr
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                else ""
            )
            and _is_private(name)
        }

    def _foreign(self, module: str) -> set[str]:
        """Names under which it has modules and names of other packages."""
        return {
            (name.asname or name.name).partition(".")[0]
            for node in ast.walk(self.trees[module])
            if isinstance(node, (ast.Import, ast.ImportFrom))
            and not (isinstance(node, ast.ImportFrom) and node.level)
            for name in node.names
            if (getattr(node, "module", None) or name.name).partition(".")[0] != self.name
        }

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        if self.paths[module].name == "__init__.py":
            parts.append("")
        base = parts[: -node.level]
        return ".".join([*base, node.module] if node.module else base)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _strongly_connected(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Tarjan's algorithm, without recursion: a chain of imports may be long."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []
    for root in graph:
        work = [] if root in index else [(root, iter(sorted(graph[root])))]
        if work:
            index[root] = low[root] = len(index)
            stack.append(root)
        while work:
            node, others = work[-1]
            for other in others:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    work.append((other, iter(sorted(graph[other]))))
                    break
                if other in stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    components.append(stack[at:])
                    del stack[at:]
    return components
