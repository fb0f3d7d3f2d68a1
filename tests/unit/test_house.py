"""The house keeps its own rules: locks, rooms, sizes, extras and the documentation that says what the code does."""

import ast
import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[2]
SOURCE = HOUSE / "src" / "setpoint"
PYPROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())
LONGEST_FILE_LINES = 400
UNLOCKED_EXTRAS = {"torch", "tensorflow"}  # scripts/torch_venv.sh says why

sources = sorted(SOURCE.rglob("*.py"))
locks = sorted((HOUSE / "requirements").glob("*.txt"))


def relative(path: Path) -> str:
    return str(path.relative_to(HOUSE))


@pytest.mark.parametrize("lock", locks, ids=relative)
def test_locks_hold_names_versions_and_hashes_only(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=sha256:)", text, re.MULTILINE), "options other than hashes"
    assert " @ " not in text
    packages = re.split(r"\n(?=\S)", text.strip())
    for package in packages:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+", package), package
        assert "--hash=sha256:" in package, package


def test_the_demo_uses_the_tested_versions() -> None:
    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (HOUSE / "requirements" / name).read_text(), re.MULTILINE))

    assert pinned("demo.txt") < pinned("dev.txt")


def test_no_lock_holds_a_training_framework() -> None:
    for lock in locks:
        assert not re.search(
            r"^(torch|tensorflow|jax|keras|sentence-transformers)==", lock.read_text(), re.MULTILINE
        ), lock


def test_every_declared_dependency_is_locked() -> None:
    groups = [PYPROJECT["project"]["dependencies"]]
    extras = PYPROJECT["project"]["optional-dependencies"].items()
    groups += [rows for name, rows in extras if name not in UNLOCKED_EXTRAS]
    groups += PYPROJECT["dependency-groups"].values()
    declared = {re.match(r"[\w.-]+", row)[0] for rows in groups for row in rows}  # type: ignore[index]
    locked = set(re.findall(r"^(\S+)==", (HOUSE / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in declared} <= locked


@pytest.mark.parametrize("file", sources, ids=relative)
def test_a_file_tells_one_story(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST_FILE_LINES


def imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """Every ``setpoint.…`` module that a file imports, wherever in it, with its line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name


@pytest.mark.parametrize("file", sources, ids=relative)
def test_rooms_are_entered_by_their_door(file: Path) -> None:
    own = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    for line, module in imports_of(file):
        parts = module.split(".")
        if parts[0] != "setpoint" or len(parts) < 3 or parts[1] == own or own == "__main__":
            continue
        pytest.fail(f"{relative(file)}:{line} imports {module}; import from setpoint.{parts[1]} instead")


def missing_extra_calls() -> Iterator[tuple[str, str]]:
    """Where ``MissingExtra`` is raised, and the extra it names: written out there, or a constant of the module."""
    for file in sources:
        tree = ast.parse(file.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtra" and len(node.args) > 1:
                extra = node.args[1]
                if isinstance(extra, ast.Name):
                    extra = constants.get(extra.id, extra)
                assert isinstance(extra, ast.Constant), f"{relative(file)}:{node.lineno}: write the extra's name out"
                yield f"{relative(file)}:{node.lineno}", str(extra.value)


def test_every_extra_that_an_error_names_can_be_installed() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    for place, extra in missing_extra_calls():
        assert extra in extras, f"{place} tells people to install setpoint[{extra}]"


def test_doctor_says_what_each_extra_is_for() -> None:
    from setpoint.cli.health import EXTRAS

    assert set(EXTRAS) == set(PYPROJECT["project"]["optional-dependencies"])


def test_the_command_line_reference_is_what_help_says() -> None:
    specification = importlib.util.spec_from_file_location("cli_reference", HOUSE / "scripts" / "cli_reference.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert (HOUSE / "docs" / "cli.md").read_text() == module.reference(), "run: make docs"


def test_every_direct_dependency_is_accounted_for() -> None:
    page = (HOUSE / "docs" / "dependencies.md").read_text()
    groups = [PYPROJECT["project"]["dependencies"]]
    groups += PYPROJECT["project"]["optional-dependencies"].values()
    groups += PYPROJECT["dependency-groups"].values()
    for row in (row for rows in groups for row in rows):
        name = re.match(r"[\w.-]+", row)
        assert name is not None
        assert f"| {name[0]} |" in page, f"docs/dependencies.md does not say what {name[0]} is for"


def test_the_readme_and_ci_run_the_same_tests() -> None:
    assert "make test" in (HOUSE / "README.md").read_text()
    assert re.search(r"^step make test$", (HOUSE / ".ci" / "run").read_text(), re.MULTILINE)


def test_scripts_are_valid_shell_and_can_be_run() -> None:
    scripts = [*(HOUSE / "scripts").glob("*.sh"), HOUSE / ".ci" / "run"]
    for script in scripts:
        assert script.stat().st_mode & 0o111, f"{relative(script)} is not executable"
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
