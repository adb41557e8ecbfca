"""The house: floors, walls and sizes of gilmsg/, and what tests may look into. DESIGN, section 6, says why."""

from __future__ import annotations

import ast
import functools
import importlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import gilmsg

from .processes import REPOSITORY

HOME = pathlib.Path(gilmsg.__file__).parent
TESTS = REPOSITORY / "tests"

#: Imports go down only. A room is a folder with a face, its ``__init__``, or a single module; "gilmsg" is the door.
FLOORS = [
    {"errors", "_version"},
    {"_protocol", "_trust"},
    {"_engine", "_settings", "_meta", "_pki"},
    {"_client", "metrics"},
    {"aio", "consumers", "sandbox", "outbox", "_check"},
    {"gilmsg", "__main__", "testing", "commands"},
]

RANKS = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}

#: What has one user, or few: library -> rooms or modules.
USERS = {
    "zmq": {"_engine", "_client/receive"},
    "fedmsg.core": {"_client/context"},
    "fedmsg.crypto": {"_trust"},
    "prometheus_client": {"metrics"},
    "moksha": {"consumers"},  # but for its log: what we need of it fedmsg.consumers has
}

#: What the protocol knows nothing of: sockets, threads, clocks, files, logs.
WORLD = {
    "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "select",
    "selectors", "signal", "socket", "subprocess", "tempfile", "threading", "time", "zmq",
}  # fmt: skip

#: Of the day; they may grow only with what gilmsg does. The goal is 44 files and 5,600 lines.
MOST = {"files": 79, "gilmsg": 14010, "module": 300, "function": 45}

#: Lines of tests for each line of gilmsg, without faults and benchmarks.
TESTS_TO_CODE = 1.6


class Module(NamedTuple):
    """One of ours, or of the tests': its name within its tree, as "_client/receive", and what it consists of."""

    name: str
    path: pathlib.Path
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        return self.name.partition("/")[0]


@functools.cache
def modules(home: pathlib.Path) -> dict[str, Module]:
    found = {}
    for path in sorted(home.rglob("*.py")):
        parts = path.relative_to(home).with_suffix("").parts
        name = "/".join(parts[:-1] if parts[-1] == "__init__" else parts) or home.name
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, ast.parse(text), len(text.splitlines()))
    return found


def ours() -> dict[str, Module]:
    """Return the modules of gilmsg; not read before a test asks: each worker imports this file."""
    return modules(HOME)


@functools.cache
def imports(module: Module) -> list[str]:
    """Return what is imported anywhere in *module*, but for type checkers: dotted, from the top."""
    top, found = HOME.parent if HOME in module.path.parents else REPOSITORY, []
    for node in ast.walk(Pruned().visit(module.tree)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.path.relative_to(top).parent.parts
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")]).rstrip(".")
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


class Pruned(ast.NodeTransformer):
    """Leaves out what stands under ``if TYPE_CHECKING:``."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


def resolved(dotted: str) -> str | None:
    """The module of ours that an import of *dotted* loads; None if it is somebody else's."""
    if dotted.partition(".")[0] != "gilmsg":
        return None
    parts = dotted.split(".")[1:]
    while parts and "/".join(parts) not in ours():
        parts.pop()
    return "/".join(parts) or "gilmsg"


@functools.cache
def arrows() -> set[tuple[str, str]]:
    """Who imports whom, of ours."""
    pairs = ((one.name, resolved(dotted)) for one in ours().values() for dotted in imports(one))
    return {(importer, imported) for importer, imported in pairs if imported and imported != importer}


def test_imports_go_down_only():
    """A room, each on its floor, imports from those below; on the highest they may ask each other, through the door."""
    assert {module.room for module in ours().values()} == set().union(*FLOORS)
    wrong = []
    for importer, imported in sorted(arrows()):
        above, below = ours()[importer].room, ours()[imported].room
        same = above == below or RANKS[above] == RANKS[below] == len(FLOORS)
        if not same and RANKS[below] >= RANKS[above]:
            wrong.append(f"{importer} imports {imported}")
    assert wrong == []


def test_nobody_reaches_past_a_face():
    """From outside a room only its face is imported; what it offers, a module too, is there by its ``__all__``."""
    pairs = {(one.name, dotted) for one in ours().values() for dotted in imports(one)}
    assert sorted(pair for pair in pairs if reaches_past(ours()[pair[0]], pair[1])) == []


def reaches_past(module: Module, dotted: str) -> bool:
    """Tell if *module* imports something that the face of another room does not offer itself."""
    path = resolved(dotted) or ""
    room, _, inner = path.partition("/")
    if not inner or room == module.room:
        return False
    face = importlib.import_module(f"gilmsg.{room}")
    return dotted != f"gilmsg.{room}.{inner}" or inner not in getattr(face, "__all__", ())


def test_there_is_no_circle():
    """Of modules that import each other in the end, the door left out: it loads what is slow on first use."""
    left = {name: {b for a, b in arrows() if a == name and b != "gilmsg"} for name in ours() if name != "gilmsg"}
    while free := [name for name, wanted in left.items() if not wanted & set(left)]:
        for name in free:
            del left[name]
    assert left == {}


@pytest.mark.parametrize("library", USERS)
def test_a_library_has_few_users(library):
    """What is difficult about a library is known in one place."""
    users = {one.name for one in ours().values() if any(f"{name}.".startswith(library + ".") for name in uses(one))}
    assert {name for name in users if not {name, ours()[name].room} & USERS[library]} == set()


def uses(module: Module) -> Iterator[str]:
    """Yield what *module* imports, be it by a string, and what it takes of fedmsg by attributes."""
    yield from imports(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.value
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fedmsg":
            yield f"fedmsg.{node.attr}"


def test_the_protocol_knows_nothing_of_the_world():
    """No socket, thread, clock, file or log: what happens, and when, are arguments; nor the engine of keys."""
    rooms = {(ours()[a].room, ours()[b].room) for a, b in arrows()}
    assert not rooms & {("_engine", "_trust"), ("_engine", "_settings"), ("_trust", "_protocol")}
    for module in ours().values():
        if module.room == "_protocol":
            assert {name.partition(".")[0] for name in imports(module)} & WORLD == set(), module.name
            assert "open" not in {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}


def test_the_house_is_small():
    """So many files, so many lines in all, in a module and in a function, and no more."""
    assert len(ours()) <= MOST["files"] and sum(one.lines for one in ours().values()) <= MOST["gilmsg"]
    assert {one.name: one.lines for one in ours().values() if one.lines > MOST["module"]} == {}
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [(one.name, node) for one in ours().values() for node in ast.walk(one.tree) if isinstance(node, kinds)]
    lengths = {f"{name}: {node.name}": (node.end_lineno or 0) - node.lineno + 1 for name, node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > MOST["function"]} == {}


def test_each_module_says_what_is_in_it():
    """Its first line is a noun phrase, or a verb: no riddle."""
    riddles = ("What", "Who", "Whose", "Whether", "How", "Why")
    assert [one.name for one in ours().values() if (ast.get_docstring(one.tree) or "Why").startswith(riddles)] == []


def test_tests_use_public_names():
    """But for tests/inside.py, and those in a room's own folder: they may look into that room.

    Those may also take what the faces of floors below offer, where they have to build what their room is given.
    """
    wrong = []
    for module in modules(TESTS).values():
        if module.name not in ("inside", "programs/subtitle"):
            ours = [name for name in imports(module) if name.startswith("gilmsg.")]
            wrong += [f"{module.name}: {dotted}" for dotted in ours if not may_import(module, dotted)]
    assert wrong == []


def may_import(module: Module, dotted: str) -> bool:
    path = resolved(dotted) or ""
    own = next((room for room in (f"_{module.room}", module.room) if room in RANKS), None)
    if not (path.startswith(("_", "sandbox/")) or "/_" in path) or (own and ours()[path].room == own):
        return True
    below = own is not None and RANKS[ours()[path].room] < RANKS[own]
    return below and not reaches_past(module, dotted)


def test_tests_are_no_larger_than_they_must_be():
    """They are read and kept up as gilmsg is."""
    lines = sum(one.lines for one in modules(TESTS).values() if one.room not in ("faults", "benchmarks"))
    assert lines <= TESTS_TO_CODE * sum(one.lines for one in ours().values())
