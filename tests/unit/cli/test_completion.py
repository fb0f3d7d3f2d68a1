"""The scripts of ``setpoint completion`` are the shells' own language, and TAB reaches verbs, options and models."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from setpoint.registry import Bundle, Registry

Run = Callable[..., tuple[int, str, str]]
Add = Callable[[str, bytes], Bundle]


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef setpoint"), ("fish", "complete ")]
)
def test_each_shell_has_a_script(run: Run, shell: str, sign: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert sign in out
    assert "_SETPOINT_COMPLETE" in out


def test_the_shell_is_guessed_and_an_unknown_one_is_misuse(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "complete" in run("completion")[1]
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    code, _, err = run("completion")
    assert code == 2
    assert "bash, zsh, fish" in err


def completed(words: str) -> list[str]:
    environment = {
        **os.environ,
        "_SETPOINT_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run([sys.executable, "-m", "setpoint"], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_tab_completes_verbs_options_and_models(add: Add, registry: Registry) -> None:
    add("iris", b"one")
    assert completed("setpoint in") == ["inspect"]
    assert completed("setpoint inspect --js") == ["--json"]
    assert completed("setpoint inspect i") == ["iris"]
