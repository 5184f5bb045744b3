"""Counts the files that a reader of the project opens: to follow an equation or an iteration, to add a loss.

A walk starts at a function and goes to every project definition that is used in it: names (through imports,
and past an ``__init__`` that passes them on), parts of imported modules, and methods and attributes of
objects whose class is known: of ``self``, of arguments and attributes by their type hints, and of what a
class or a function with a typed result returned. A protocol leads to every class that has all its methods
too. Objects of which nothing is said lead nowhere.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nplp.errors import UserError

__all__ = ["Sources", "files_to_follow", "room_of", "uses_of_a_loss"]

PROJECT = ("nplp", "nplp_commands", "nplp_synthetic", "nplp_experiments")


class Definition(NamedTuple):
    """A function, class or method of a module, such as ``BatchHardTripletLoss.forward``."""

    module: str
    name: str


@dataclass(frozen=True)
class Walk:
    """Where a walk starts, and how far it goes.

    Attributes:
        starts: definitions, of which the first that exists is taken; names of methods are ``CLASS.NAME``.
        followed: packages whose definitions are followed; what is used of other packages is not.
        ends: packages that count as one file, their ``__init__``.
    """

    starts: tuple[Definition, ...]
    followed: tuple[str, ...]
    ends: tuple[str, ...] = ()


WALKS = {
    "eq4": Walk(
        (Definition("nplp.clustering.epsilon", "startup_epsilon"),),
        followed=("nplp.clustering",),
        ends=("nplp.clustering.sweep",),
    ),
    "iteration": Walk(
        (
            Definition("nplp.engine.labelling", "LabellingHook._begin_iteration"),
            Definition("nplp.engine.pseudo_labels", "PseudoLabelHook._begin_iteration"),
        ),
        followed=("nplp.engine", "nplp.methods"),
    ),
}
WALKS["around an iteration"] = Walk(WALKS["iteration"].starts, followed=("nplp",))

STARTS = ("__init__", "__post_init__", "__call__", "forward")
"""What the call of a class, or of an object of it, runs."""

Types = dict[str, set[Definition]]
"""The classes that names may be of."""


class Sources:
    """The modules of a tree of packages, with their syntax."""

    def __init__(self, tree: Path) -> None:
        """Read them.

        Args:
            tree: the folder that holds the packages.
        """
        self.tree = tree
        self.paths = sorted(path for name in PROJECT for path in (tree / name).rglob("*.py"))
        self.modules = {self.name_of(path): path for path in self.paths}
        self.syntax = {
            name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.modules.items()
        }
        self._bound = {name: dict(self._bindings(name)) for name in self.modules}
        self.classes = [
            Definition(name, node.name)
            for name, syntax in self.syntax.items()
            for node in syntax.body
            if isinstance(node, ast.ClassDef)
        ]

    def name_of(self, path: Path) -> str:
        """Return a module's dotted name."""
        parts = path.relative_to(self.tree).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def file_of(self, module: str) -> str:
        """Return a module's path below the tree."""
        return self.modules[module].relative_to(self.tree).as_posix()

    def imported(self, module: str) -> set[str]:
        """Return the project's modules that a module imports, at any depth of its code."""
        names: set[str] = set()
        for node in ast.walk(self.syntax[module]):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names if alias.name in self.modules)
            elif isinstance(node, ast.ImportFrom):
                source = self._source(module, node)
                parts = {f"{source}.{alias.name}" for alias in node.names} & self.modules.keys()
                names.update(parts or ({source} & self.modules.keys()))
        return names - {module}

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        """Return the dotted name of what an import takes from."""
        if not node.level:
            return node.module or ""
        own = module.split(".")
        package = own if self.modules[module].name == "__init__.py" else own[:-1]
        parts = package[: len(package) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _bindings(self, module: str) -> Iterator[tuple[str, Definition]]:
        """Yield the names that a module has for definitions and modules (of an empty name) of the project."""
        for node in ast.walk(self.syntax[module]):
            if isinstance(node, ast.ImportFrom):
                source = self._source(module, node)
                for alias in node.names:
                    whole = f"{source}.{alias.name}"
                    if whole in self.modules:
                        yield alias.asname or alias.name, Definition(whole, "")
                    elif source in self.modules:
                        yield alias.asname or alias.name, Definition(source, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in self.modules and (alias.asname or "." not in alias.name):
                        yield alias.asname or alias.name, Definition(alias.name, "")

    def defined(self, found: Definition) -> Definition | None:
        """Return where a name that a module has is defined; ``None`` where it is no function or class."""
        for _ in range(8):
            if self.node_of(found) is not None:
                return found
            passed_on = self._bound.get(found.module, {}).get(found.name)
            if passed_on is None or not passed_on.name:
                return None
            found = passed_on
        return None

    def node_of(self, found: Definition) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | None:
        """Return the syntax of a definition; ``None`` where there is none of that name."""
        body: list[ast.stmt] = self.syntax[found.module].body if found.module in self.syntax else []
        node = None
        for name in found.name.split("."):
            node = next(
                (
                    each
                    for each in body
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                    and each.name == name
                ),
                None,
            )
            if node is None:
                return None
            body = node.body
        return node

    def used_in(self, found: Definition) -> Iterator[Definition]:
        """Yield the definitions of the project that a function, class or method uses."""
        node = self.node_of(found)
        if node is None:
            return
        if isinstance(node, ast.ClassDef):
            # What the name of a class leads to is what a call of it runs; methods are followed where called.
            yield from (
                Definition(found.module, f"{found.name}.{part.name}")
                for part in functions_in(node)
                if part.name in STARTS
            )
            for part in (*node.bases, *node.decorator_list):
                yield from self._names_in(found.module, part)
            return
        types = self._types_in(found, node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                yield from self._named(found.module, inner.id)
            elif isinstance(inner, ast.Attribute):
                bound = self._module_of(found.module, inner.value)
                if bound:
                    yield from self._named(bound, inner.attr)
                for owner in self._type_of(found.module, inner.value, types):
                    yield from self._method(owner, inner.attr)

    def _named(self, module: str, name: str) -> Iterator[Definition]:
        target = self.defined(Definition(module, name))
        if target is not None:
            yield target

    def _names_in(self, module: str, node: ast.AST | None) -> Iterator[Definition]:
        """Yield the project's definitions that an expression names, within texts too, as in type hints."""
        if node is None:
            return
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                yield from self._named(module, inner.id)
            elif isinstance(inner, ast.Attribute) and self._module_of(module, inner.value):
                yield from self._named(self._module_of(module, inner.value), inner.attr)
            elif isinstance(inner, ast.Constant) and str(inner.value).isidentifier():
                yield from self._named(module, str(inner.value))

    def _module_of(self, module: str, node: ast.expr) -> str:
        """Return the module that an expression names; empty where it names none."""
        if isinstance(node, ast.Attribute):
            whole = f"{self._module_of(module, node.value)}.{node.attr}"
            return whole if whole in self.modules else ""
        bound = self._bound[module].get(node.id) if isinstance(node, ast.Name) else None
        return bound.module if bound is not None and not bound.name else ""

    def _types_in(self, found: Definition, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Types:
        """Return the classes of a function's arguments and variables, as far as the code says them."""
        types: Types = {}
        owner = found.name.rpartition(".")[0]
        if owner:
            types["self"] = {Definition(found.module, owner)}
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if argument.annotation is not None:
                types[argument.arg] = set(self._classes_in(found.module, argument.annotation))
        for inner in ast.walk(node):
            if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                types[inner.target.id] = set(self._classes_in(found.module, inner.annotation))
            elif isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
                types.setdefault(inner.targets[0].id, set()).update(
                    self._type_of(found.module, inner.value, types)
                )
        return types

    def _classes_in(self, module: str, node: ast.AST | None) -> Iterator[Definition]:
        """Yield the classes that a type hint names, and those that have the methods of a protocol."""
        for found in self._names_in(module, node):
            syntax = self.node_of(found)
            if isinstance(syntax, ast.ClassDef):
                yield found
                if any(isinstance(base, ast.Name) and base.id == "Protocol" for base in syntax.bases):
                    asked = {part.name for part in functions_in(syntax)}
                    yield from (each for each in self.classes if asked <= self._method_names(each))

    def _method_names(self, found: Definition) -> set[str]:
        syntax = self.node_of(found)
        return {part.name for part in functions_in(syntax)} if isinstance(syntax, ast.ClassDef) else set()

    def _type_of(self, module: str, node: ast.expr, types: Types) -> set[Definition]:
        """Return the classes that an expression may be of, as far as the code says them."""
        if isinstance(node, ast.Name):
            return types.get(node.id, set())
        if isinstance(node, ast.Call):
            found = set()
            for called in self._called(module, node.func, types):
                syntax = self.node_of(called)
                if isinstance(syntax, ast.ClassDef):
                    found.add(called)
                elif syntax is not None:
                    found |= set(self._classes_in(called.module, syntax.returns))
            return found
        if isinstance(node, ast.Attribute):
            return {
                kind
                for owner in self._type_of(module, node.value, types)
                for kind in self._attribute_types(owner, node.attr)
            }
        return set()

    def _called(self, module: str, node: ast.expr, types: Types) -> Iterator[Definition]:
        """Yield the functions, classes and methods that a call may be of."""
        if isinstance(node, ast.Name):
            yield from self._named(module, node.id)
        elif isinstance(node, ast.Attribute):
            if self._module_of(module, node.value):
                yield from self._named(self._module_of(module, node.value), node.attr)
            for owner in self._type_of(module, node.value, types):
                yield from self._method(owner, node.attr)

    def _method(self, owner: Definition, name: str) -> Iterator[Definition]:
        """Yield a method of a class, its own or that of a base."""
        own = Definition(owner.module, f"{owner.name}.{name}")
        if self.node_of(own) is not None:
            yield own
            return
        syntax = self.node_of(owner)
        for base in syntax.bases if isinstance(syntax, ast.ClassDef) else ():
            for found in self._names_in(owner.module, base):
                yield from self._method(found, name)

    def _attribute_types(self, owner: Definition, name: str) -> Iterator[Definition]:
        """Yield the classes of an attribute: by its hint in the class, or what ``__init__`` assigns."""
        syntax = self.node_of(owner)
        for part in syntax.body if isinstance(syntax, ast.ClassDef) else ():
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                if part.target.id == name:
                    yield from self._classes_in(owner.module, part.annotation)
            elif isinstance(part, ast.FunctionDef) and part.name == name:
                yield from self._classes_in(owner.module, part.returns)
            elif isinstance(part, ast.FunctionDef) and part.name == "__init__":
                types = self._types_in(Definition(owner.module, f"{owner.name}.__init__"), part)
                types.pop("self", None)
                for inner in ast.walk(part):
                    target = inner.targets[0] if isinstance(inner, ast.Assign) else None
                    if isinstance(target, ast.Attribute) and target.attr == name:
                        yield from self._type_of(owner.module, inner.value, types)


def functions_in(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Return the methods of a class."""
    return [part for part in node.body if isinstance(part, ast.FunctionDef)]


def room_of(module: str) -> str:
    """Return the package that a module belongs to: ``nplp.losses``, or a sibling of ``nplp``."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "nplp" else parts[0]


def within(module: str, packages: tuple[str, ...]) -> str:
    """Return which of the packages a module lies in; empty where in none."""
    return next((name for name in packages if module == name or module.startswith(f"{name}.")), "")


def files_to_follow(sources: Sources, name: str) -> list[str]:
    """Return the files that one of :data:`WALKS` enters, sorted.

    Raises:
        UserError: if the tree has none of its starts.
    """
    walk = WALKS[name]
    waiting = [start for start in walk.starts if sources.node_of(start) is not None][:1]
    if not waiting:
        raise UserError(f"the tree has no {walk.starts}: name where this walk starts in house_reading.WALKS")
    seen, files = set(waiting), set[str]()
    while waiting:
        found = waiting.pop()
        end = within(found.module, walk.ends)
        if end:
            files.add(sources.file_of(end))
        elif within(found.module, walk.followed):
            files.add(sources.file_of(found.module))
            new = set(sources.used_in(found)) - seen
            seen |= new
            waiting += sorted(new)
    return sorted(files)


def uses_of_a_loss(sources: Sources, word: str) -> tuple[list[str], int]:
    """Return the library's files that name a loss outside its own, and how many of their lines do.

    Args:
        sources: the tree.
        word: what all names of the loss and its pieces hold, in any case; its file has this name.
    """
    files, lines = [], 0
    for module, path in sources.modules.items():
        if not module.startswith("nplp.") or module.rpartition(".")[2] == word:
            continue
        here = lines_that_name(path.read_text(encoding="utf-8"), word)
        if here:
            files.append(sources.file_of(module))
            lines += len(here)
    return files, lines


def lines_that_name(text: str, word: str) -> set[int]:
    """Return the numbers of the lines whose code, not prose, holds a word in a name or a text of one word."""
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        whole = token.type == tokenize.NAME or (token.type == tokenize.STRING and " " not in token.string)
        if whole and word in token.string.lower():
            found.add(token.start[0])
    return found
