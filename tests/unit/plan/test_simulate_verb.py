"""``setpoint simulate`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from setpoint.cli.main import main
from setpoint.plan import AffineRunTimes


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["simulate", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


SHORT = ("--objective", "p99<=60ms", "--for", "5s")


def test_a_rate_that_is_held_and_one_that_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--law", "2+8b ms", *SHORT, "--workers", "2", "--rate", "80,400")
    lines = out.splitlines()
    assert code == 1
    assert [line.split()[0] for line in lines] == ["RATE/s", "80", "400"]
    assert [line.split()[-1] for line in lines[1:]] == ["yes", "no"]


def test_variants_above_the_floor_share_the_answers(capsys: pytest.CaptureFixture[str]) -> None:
    laws = [
        part for law in ("fp32=2+8b ms@0.8", "int8=1.5+3.2b ms@0.79", "small=1+1.2b ms@0.5") for part in ("--law", law)
    ]
    code, out, _ = run(
        capsys, *laws, "--objective", "p99<=60ms, drop<=2%", "--for", "10s", "--workers", "2", "--rate", "350", "--json"
    )
    (result,) = json.loads(out)
    assert (code, result["held"]) == (0, True)
    shares = result["outcome"]["variants"]
    assert set(shares) == {"fp32", "int8"}, "small is below the floor"
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.79 < result["outcome"]["mean_accuracy"] < 0.80


def test_a_measured_profile_stands_in_for_a_law(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "fp32.json"
    path.write_bytes(msgspec.json.encode(AffineRunTimes(2.0, 8.0, rng).profile("fp32", rng)))
    code, out, _ = run(capsys, "--profile", str(path), *SHORT, "--workers", "2", "--rate", "80", "--json")
    assert code == 0
    assert json.loads(out)[0]["outcome"]["variants"] == {"fp32": 1.0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--law", "8b"], "expected such as '2+8b ms'"),
        ([], "state either --model REFERENCE or variants"),
        (["--law", "2+8b ms", "--law", "1+1b ms"], "each needs its accuracy"),
        (["--law", "a=2+8b ms@0.8", "--law", "a=1+1b ms@0.7"], "two variants are called 'a'"),
    ],
)
def test_misuse_is_told_what_was_expected(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    code, _, err = run(capsys, *arguments, *SHORT, "--rate", "10")
    assert code == 2
    assert says in " ".join(err.split())
