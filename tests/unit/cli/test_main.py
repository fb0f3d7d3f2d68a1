"""Whatever goes wrong, a person gets one or two lines with the remedy and a script gets the right exit code."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from setpoint import __version__
from setpoint.cli import models as models_verb
from setpoint.cli.main import VERBS, cli, main
from setpoint.core import (
    BundleNotFound,
    ConversionMismatch,
    CorruptBundle,
    InternalError,
    InvalidConfiguration,
    MissingExtra,
    ModelError,
    UnknownFormat,
    UntrustedFile,
)

Run = Callable[..., tuple[int, str, str]]


def test_help_names_every_verb(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for verb, line in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(line)}$", out, re.MULTILINE), verb


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_of_itself_what_the_overview_says(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert command.name == verb
    assert (command.help or "").partition("\n")[0] == VERBS[verb]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"setpoint {__version__}\n", "")


def test_help_and_completion_import_nothing_heavy() -> None:
    script = (
        "import sys, setpoint.cli.main as m; m.main(['--help']);"
        "heavy = {'numpy', 'msgspec', 'rich', 'onnxruntime', 'asyncio', 'setpoint.core'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    for environment in ({}, {"_SETPOINT_COMPLETE": "bash_complete", "COMP_WORDS": "setpoint ", "COMP_CWORD": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "serve" in done.stdout


def test_an_unknown_verb_is_misuse(run: Run) -> None:
    code, _, err = run("sevre")
    assert code == 2
    assert "sevre" in err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes ``setpoint models`` fail with a given error."""

    def fail_with(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(models_verb.Registry, "default", fail)

    return fail_with


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidConfiguration("port is 70000, at most 65535"), 2),
        (UnknownFormat("no format reads it"), 2),
        (UntrustedFile("pass --trust"), 2),
        (BundleNotFound("no such model"), 2),
        (MissingExtra("scikit-learn", "sklearn", "reading this file"), 1),
        (ConversionMismatch("answers differ by 0.3"), 1),
        (CorruptBundle("bytes changed"), 1),
        (ModelError("it failed"), 1),
        (PermissionError(13, "Permission denied", "/srv/secret"), 1),
    ],
)
def test_expected_failures_are_one_line(
    failing: Callable[[BaseException], None], run: Run, error: Exception, code: int
) -> None:
    failing(error)
    found, out, err = run("models")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("Error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("error", [KeyError("x"), InternalError("impossible"), RuntimeError()])
def test_a_bug_of_ours_says_so_and_where_its_traceback_is(
    failing: Callable[[BaseException], None],
    run: Run,
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(error)
    code, _, err = run("models")
    first, second = err.splitlines()
    assert code == 1
    assert first.startswith(f"Error: {type(error).__name__}")
    assert second.startswith("Bug: this is a bug in Setpoint")
    text = Path(second.rsplit(" ", 1)[1]).read_text()
    assert "Traceback" in text
    assert f"setpoint {__version__}" in text


@pytest.fixture
def clean_environment() -> Iterator[None]:
    yield
    os.environ.pop("SETPOINT_TRACEBACK", None)


@pytest.mark.usefixtures("clean_environment")
def test_tracebacks_are_shown_to_who_asks(failing: Callable[[BaseException], None], run: Run) -> None:
    failing(BundleNotFound("no such model"))
    code, _, err = run("--traceback", "models")
    assert code == 2
    assert "Traceback" in err
    assert "BundleNotFound: no such model" in err


def test_ctrl_c_is_quiet(failing: Callable[[BaseException], None], run: Run) -> None:
    failing(KeyboardInterrupt())
    code, out, err = run("models")
    assert (code, out, err.strip()) == (130, "", "")


def test_a_reader_that_stops_reading_is_no_failure_worth_a_word(tmp_path: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m setpoint --help | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        env={**os.environ, "SETPOINT_HOME": str(tmp_path)},
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")  # 0 where all was written before the reader left


def test_main_without_arguments_is_the_process_s_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["setpoint", "--version"])
    assert main() == 0
    assert __version__ in capsys.readouterr().out
