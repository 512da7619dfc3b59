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
    "doors": 0,
    "errors": 0,
    "logs": 0,
    "rundir": 0,
    "tallies": 0,
    "metrics_cache": 1,
    "metrics_loop": 1,
    "metrics_windows": 1,
    "mistakes": 1,
    "wire": 1,
    "metrics": 2,
    "auth": 2,
    "cache": 2,
    "providers": 2,
    "tokens": 2,
    "worker": 2,
    "packaged": 3,
    "routing": 3,
    "dispatch": 4,
    "http": 5,
    "config": 6,
    "app": 7,
    "chaos": 8,
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
    "huggingface_hub": {"packaged"},
    "apsw": {"cache"},
    "numpy": {"packaged", "wire", "worker"},
    "redis": {"cache"},
    "splintr": {"tokens"},
    "sqlalchemy": set[str](),
    "prometheus_client": {"metrics", "metrics_cache", "metrics_loop", "metrics_windows", "tallies"},
    "typer": {"cli"},
    "rich": {"cli"},
    "yaml": {"config", "providers"},
}
# Extras are imported inside functions, so that nothing needs them until they are used.
# `packaged/convert.py` may, because it is itself imported inside the one function that needs it.
LAZY = {"litellm", "xllamacpp", "llama_cpp", "gguf", "numpy", "huggingface_hub", "apsw", "redis", "splintr"}


def modules(root: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    """Yield (room, path, tree) of every module below root/gateway."""
    for path in sorted((root / "gateway").rglob("*.py")):
        yield path.relative_to(root / "gateway").parts[0].removesuffix(".py"), path, ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Yield (dotted name, line, is lazy) of each import: `import a` is a.*, `from a import b` a.b, `from . import b` .b."""
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_types(node)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((f"{alias.name}.*", node.lineno, id(node) in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (f"{node.module}." if node.module else "")
            yield from ((f"{start}{alias.name}", node.lineno, id(node) in inside) for alias in node.names)


def _is_for_types(node: ast.AST) -> bool:
    """Tell whether what is inside never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


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
    if name.startswith("."):
        yield f"imports {name}: relative imports are not used"
        return
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
    folder = root / "gateway" / target
    if not folder.is_dir():
        return
    is_inner_file = len(parts) == 3 and (folder / f"{parts[2]}.py").is_file() and parts[2] not in _shown(folder)
    if len(parts) > 3 or is_inner_file:
        yield f"imports {name} past the door of '{target}'"


def _shown(room: Path) -> set[str]:
    """Return the names in the `__all__` of a room's door; one may be a function called like the file it is from."""
    found: set[str] = set()
    for node in ast.parse((room / "__init__.py").read_text()).body if (room / "__init__.py").is_file() else ():
        if isinstance(node, ast.Assign) and "__all__" in {getattr(target, "id", "") for target in node.targets}:
            found.update(ast.literal_eval(node.value))
    return found


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
        ("dispatch/chat.py", "import gateway.wire.sse\n", "past the door"),
        ("dispatch/chat.py", "from gateway.providers import openai\n", "past the door"),
        ("app.py", "import gateway.http.access\n", "past the door"),
        ("dispatch/chat.py", "def late():\n    from gateway.providers import openai\n", "past the door"),
        ("providers/openai.py", "from ..wire import dump\n", "relative"),
        ("wire/objects.py", "from . import sse\n", "relative"),
        ("wire/objects.py", "from .sse import SseScanner\n", "relative"),
        ("dispatch/chat.py", "import litellm\n", "no tenant"),
        ("providers/litellm.py", "import litellm\n", "import it where it is used"),
        ("routing/order.py", "from aiohttp import web\n", "no tenant"),
        ("cellar/wine.py", "import os\n", "has no floor"),
        ("wire/long.py", "x = 1\n" * (MAX_FILE_LINES + 1), "301 lines"),
    ],
)
def test_a_planted_misdeed_is_seen(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    plant(tmp_path, file, text)

    found = misdeeds(tmp_path)

    assert any(complaint in line for line in found)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config/rules.py", "from gateway.providers import LlamaCppSettings, presets\nimport gateway.http\n"),
        ("app.py", "from gateway.http import guard\n"),
        ("config/rules.py", "from gateway.config.tree import Tree\nimport gateway.config.tree\n"),
        ("dispatch/chat.py", "from gateway import logs\nfrom gateway.call import Call\nimport gateway.errors\n"),
        ("providers/openai.py", "from gateway.wire import dump\n\ndef late():\n    import litellm\n"),
    ],
)
def test_what_is_allowed_is_not_complained_of(tmp_path: Path, file: str, text: str) -> None:
    plant(tmp_path, file, text)

    assert misdeeds(tmp_path) == []


def plant(root: Path, file: str, text: str) -> None:
    """Build a small house with `text` in one of its files."""
    rooms = ("call.py", "errors.py", "logs.py", "wire/sse.py", "providers/openai.py", "providers/presets/__init__.py")
    for place in (*rooms, "http/guard.py", "http/answers.py", "config/tree.py", file):
        path = root / "gateway" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "gateway" / "http" / "__init__.py").write_text('__all__ = ["guard"]\n')
    (root / "gateway" / file).write_text(text)


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
