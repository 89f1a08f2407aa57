"""The house: imports run down the list of rooms, never up; no file and no function is too long."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rawtrain"

# From top to bottom. A module may import from the rooms below its own, and within its room.
ROOMS = (
    ("study",),
    ("ner", "mlm", "tag", "fill", "__main__"),
    ("job",),
    ("cli",),
    ("use",),
    ("results",),
    ("loop",),
    ("evaluation",),
    ("match_trainer",),
    ("collate",),
    ("batches",),
    ("fast",),
    ("loss",),
    ("optim", "precision"),
    ("run",),
    ("models",),
    ("data",),
    ("randomness",),
    ("config",),
    ("errors",),
)
FLOOR = {name: number for number, names in enumerate(ROOMS) for name in names}

LONGEST_FILE, LONGEST_FUNCTION = 300, 60  # lines
LONGEST = {"loop.py": 200, "ner.py": 200, "mlm.py": 220}
LONGEST_PACKAGE, LONGEST_STUDY = 10500, 2650


def modules():
    """Every module of the package but its own `__init__`, which names what stands elsewhere."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports_of(source):
    """The modules of this package that a source imports, anywhere in it, without "rawtrain."."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name[9:] for name in names if name.startswith("rawtrain."))


def room_of(module):
    return module.partition(".")[0].removesuffix(".py")


def upward_imports(path, source):
    room = room_of(".".join(path.relative_to(PACKAGE).parts))
    public = {"NerSettings", "MlmSettings"}  # rawtrain/__init__.py passes them on
    for name in imports_of(source):
        other = room_of(name)
        if other not in public and room != other and FLOOR[other] <= FLOOR[room]:
            yield f"{path.relative_to(PACKAGE)} in {room} imports {name}, which is not below it"


def test_imports_run_down_the_rooms():
    found = [line for path in modules() for line in upward_imports(path, path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "file, line",
    [
        ("data/conll.py", "from rawtrain.results.metrics import score_dict"),
        ("results/card.py", "from rawtrain import ner"),
        ("run/plan.py", "import rawtrain.loop"),
        ("mlm.py", "from rawtrain.ner import main"),
        ("run/log.py", "def f():\n    from rawtrain.study import parity"),
    ],
)
def test_an_upward_import_is_named(file, line):
    (found,) = upward_imports(PACKAGE / file, line)
    assert found.startswith(file) and found.endswith("which is not below it")


def test_the_tree_in_the_readme_has_the_rooms_in_this_order():
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    tree = readme.partition("rawtrain/\n")[2].partition("```")[0]
    named = [word for line in tree.splitlines() for word in line[2:22].split()]
    rooms = [name.removesuffix("/").removesuffix(".py") for name in named]
    floors = [FLOOR[name] for name in rooms if name in FLOOR]
    assert floors == sorted(floors)
    assert set(rooms) >= set(FLOOR) - {"__main__"}


def test_every_file_and_every_function_can_be_read_in_one_go():
    too_long = []
    for path in modules():
        name, source = str(path.relative_to(PACKAGE)), path.read_text(encoding="utf-8")
        limit, length = LONGEST.get(name, LONGEST_FILE), len(source.splitlines())
        if length > limit:
            too_long.append(f"{name}: {length} lines, at most {limit}")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    too_long.append(f"{name}: {node.name} has {length} lines")
    assert not too_long, "\n".join(too_long)


def test_the_package_keeps_its_promised_size():
    sizes = {"study": 0, "rest": 0}
    for path in modules():
        room = "study" if path.is_relative_to(PACKAGE / "study") else "rest"
        sizes[room] += len(path.read_text(encoding="utf-8").splitlines())
    assert sizes["study"] < LONGEST_STUDY and sizes["rest"] < LONGEST_PACKAGE, sizes


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    declared = {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in project["dependencies"]}
    optional = {"accelerate", "wandb"}  # for a study of the tests, and for --report_to
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
            assert found <= declared | optional | {"rawtrain"}, (path, found)
