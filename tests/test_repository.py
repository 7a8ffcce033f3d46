"""The repository's own promises: one lock, one address, a light import, names as in the public contract."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tempscale

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_the_lock_pins_every_package_exactly_and_torch_where_the_project_wants_it():
    for requirement in locked().values():
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
    assert str(locked()["torch"].specifier) == "==2.13.0"


def test_the_lock_holds_every_dependency_and_extra_within_its_bounds():
    declared = PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for requirement in map(Requirement, declared):
        (pin,) = locked()[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(pin.version), f"{requirement} against {pin}"


def test_environment_yml_describes_the_same_set_as_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    conda = dict(entry.partition("=")[::2] for entry in environment["dependencies"] if isinstance(entry, str))
    assert conda.keys() == {"python", "pip", "make"}, "every other package is the lock's"
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(conda["python"])


def test_the_oldest_versions_are_the_declared_bounds():
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    oldest = {r.name: r for r in map(Requirement, filter(lambda line: line and line[0] != "#", lines))}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        (pin,), (bound,) = oldest[requirement.name].specifier, requirement.specifier
        assert pin.version == bound.version or requirement.name == "torch"


def test_the_address_stands_in_one_place_only():
    """Files that a person writes do not repeat it; generated ones are checked against it by the notebooks' own test."""
    address = PROJECT["urls"]["Repository"].removeprefix("https://")
    written = [*ROOT.glob("*"), *ROOT.glob("tempscale/**/*"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("book/**/*")]
    generated = {".ipynb", ".pyc"}
    holders = {
        path.relative_to(ROOT).as_posix()
        for path in written
        if path.is_file() and path.suffix not in generated and address.encode() in path.read_bytes()
    }
    assert holders <= {"pyproject.toml", "README.md", "CITATION.cff"}


HEAVY = (
    "IPython",
    "matplotlib",
    "mteb",
    "pandas",
    "ray",
    "scipy",
    "sentence_transformers",
    "tokenizers",
    "transformers",
)


def test_importing_tempscale_is_light_and_this_test_can_fail():
    found = f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    code = f"import sys, tempscale; {found}; import pandas, transformers; {found}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    light, heavy = result.stdout.splitlines()
    assert light == ""
    assert {"pandas", "transformers"} <= set(heavy.split())


def test_public_names_are_listed_and_exist():
    assert tempscale.__all__ == sorted(tempscale.__all__)
    for name in tempscale.__all__:
        assert getattr(tempscale, name).__doc__


def imports(path):
    """Return the full names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_package_imports_nothing_from_the_book_or_the_tests(tmp_path):
    outside = ("book", "support", "tests")
    for path in (ROOT / "tempscale").rglob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] in outside], path
    (tmp_path / "module.py").write_text("def f():\n    from book.results import x\n")
    assert imports(tmp_path / "module.py") == {"book.results.x"}, "also inside a function"


def test_no_module_or_room_at_the_top_is_hidden_by_a_public_name():
    top = {path.stem for path in (ROOT / "tempscale").iterdir()}
    assert {"patching", "spectrum", "models"} <= top
    assert not top & set(tempscale.__all__)
    for name in top - {"__init__", "__pycache__", "py", "slider"}:
        assert getattr(importlib.import_module(f"tempscale.{name}"), "__file__", None)


ROOMS = sorted(path.parent.name for path in (ROOT / "tempscale").glob("*/__init__.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_names_its_modules(room):
    folder = ROOT / "tempscale" / room
    (docstring,) = ast.parse((folder / "__init__.py").read_text("utf-8")).body
    assert isinstance(docstring, ast.Expr), "a docstring, and no imports: nothing is hidden"
    for module in folder.glob("[!_]*.py"):
        assert f"`{module.stem}`" in docstring.value.value or f"`{module.stem}." in docstring.value.value, module
