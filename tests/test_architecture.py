"""The plan of the house, held by a walk over the syntax tree.

Imports only go down a floor; a room is entered by its door; third parties live in the rooms they are tenants of;
heavy extras are imported lazily in one place each; files stay short.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 300

# The floor of each room or file of gateway/. A module may import from lower floors only, and from its own room.
FLOORS = {
    "__init__": 0,
    "call": 0,
    "errors": 0,
    "logs": 0,
    "rundir": 0,
    "metrics": 1,
    "wire": 1,
    "auth": 2,
    "packaged": 2,
    "providers": 2,
    "worker": 2,
    "routing": 3,
    "dispatch": 4,
    "http": 5,
    "config": 6,
    "app": 7,
    "processes": 8,
    "cli": 9,
    "__main__": 10,
}
# Third parties that may be imported by these rooms only.
TENANTS = {
    "aiohttp.web": {"http", "app", "processes", "worker"},
    "litellm": {"providers"},
    "openai": set[str](),
    "xllamacpp": {"worker"},
    "llama_cpp": {"worker"},
    "gguf": {"packaged"},
    "numpy": {"packaged"},
    "redis": set[str](),
    "sqlalchemy": set[str](),
    "prometheus_client": {"metrics"},
    "typer": {"cli"},
    "rich": {"cli"},
    "yaml": {"config", "providers"},
}
# Extras are imported inside functions, so that nothing needs them until they are used.
# `packaged/convert.py` may, because it is itself imported inside the one function that needs it.
LAZY = {"litellm", "xllamacpp", "llama_cpp", "gguf", "numpy"}


def modules(root: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    """Yield (room, path, tree) of every module below root/gateway."""
    for path in sorted((root / "gateway").rglob("*.py")):
        yield path.relative_to(root / "gateway").parts[0].removesuffix(".py"), path, ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Yield (dotted name, line, is lazy) of each import; `from a import b` yields a.b."""
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, id(node) in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno, id(node) in inside) for alias in node.names)


def misdeeds(root: Path) -> list[str]:
    """Return everything below root/gateway that goes against the plan, one line each."""
    found = []
    for room, path, tree in modules(root):
        place = path.relative_to(root)
        if room not in FLOORS:
            found.append(f"{place}: the room '{room}' has no floor")
            continue
        length = len(path.read_text().splitlines())
        if length > MAX_FILE_LINES:
            found.append(f"{place}: {length} lines, more than {MAX_FILE_LINES}")
        for name, line, lazy in imports(tree):
            is_lazy = lazy or path.parts[-2:] == ("packaged", "convert.py")
            found.extend(f"{place}:{line}: {fault}" for fault in _faults(root, room, name, lazy=is_lazy))
    return found


def _faults(root: Path, room: str, name: str, *, lazy: bool) -> Iterator[str]:
    parts = name.split(".")
    if parts[0] != "gateway":
        yield from _tenancy(room, name, lazy=lazy)
        return
    # `from gateway import logs` names the room in its last part, `from gateway.wire import dump` in its second.
    target = parts[1] if len(parts) > 1 else "__init__"
    if target == room or target.startswith("__version"):
        return
    if FLOORS.get(target, 99) >= FLOORS[room]:
        yield f"imports {name}: '{target}' is not below '{room}'"
    is_package = (root / "gateway" / target).is_dir()
    if is_package and len(parts) > 3:
        yield f"imports {name} past the door of '{target}'"


def _tenancy(room: str, name: str, *, lazy: bool) -> Iterator[str]:
    for package, rooms in TENANTS.items():
        if (name == package or name.startswith(f"{package}.")) and room not in rooms:
            yield f"imports {name}: '{package}' is no tenant of '{room}'"
    if name.split(".")[0] in LAZY and not lazy:
        yield f"imports {name} at the top: it is an extra, import it where it is used"


def test_the_house_stands_as_planned() -> None:
    assert misdeeds(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("wire/sse.py", "from gateway.http import answers\n", "not below"),
        ("errors.py", "import gateway.call\n", "not below"),
        ("dispatch/chat.py", "from gateway.providers.openai import OpenAIWire\n", "past the door"),
        ("dispatch/chat.py", "import litellm\n", "no tenant"),
        ("providers/litellm.py", "import litellm\n", "import it where it is used"),
        ("routing/order.py", "from aiohttp import web\n", "no tenant"),
        ("cellar/wine.py", "import os\n", "has no floor"),
        ("wire/long.py", "x = 1\n" * (MAX_FILE_LINES + 1), "301 lines"),
    ],
)
def test_a_planted_misdeed_is_seen(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    planted = tmp_path / "gateway" / file
    planted.parent.mkdir(parents=True)
    planted.write_text(text)
    for room in ("providers", "http", "wire"):
        (tmp_path / "gateway" / room).mkdir(exist_ok=True)

    found = misdeeds(tmp_path)

    assert any(complaint in line for line in found)


def test_the_core_imports_no_extra_and_no_toolkit() -> None:
    """What `gateway serve` loads with hosted providers only; a heavy import here is seconds and megabytes."""
    heavy = {*LAZY, "openai", "rich", "typer", "hypothesis", "pytest"}

    listing = subprocess.run(
        [sys.executable, "-c", "import sys, gateway.app; print(*sorted({name.split('.')[0] for name in sys.modules}))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )

    assert not heavy & set(listing.stdout.split())
