"""``load`` says what is wrong with what was asked before anything is sent."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from setpoint.cli.load import ArrivalsText, Rates, Share
from setpoint.cli.load_report import maximum_text
from setpoint.plan import ArrivalKind, Maximum

Run = Callable[..., tuple[int, str, str]]
URL = "http://127.0.0.1:1/v2/models/iris"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--deadline"),
        (("--deadline", "20ms"), "say how much to send: --rate 200, or --find-max"),
        (("--deadline", "20ms", "--rate", "x"), "expected such as 200, or 100,200,400"),
        (("--deadline", "20ms", "--rate", "0"), "not a rate above 0"),
        (("--deadline", "20ms", "--rate", "1,2", "--find-max"), "starts from one --rate"),
        (("--deadline", "20ms", "--rate", "1", "--arrivals", "uniform"), "expected poisson"),
        (("--deadline", "20ms", "--rate", "1", "--arrivals", "no.csv"), "no.csv cannot be read"),
        (("--deadline", "20ms", "--rate", "1", "--attain", "100%"), "not a share below 100%"),
        (("--deadline", "20ms", "--rate", "1", "--picture", "a.jpg"), "ends in .svg or .png"),
        (("--deadline", "20ms", "--rate", "1", "-H", "nonsense"), "expected NAME:VALUE"),
    ],
)
def test_misuse_is_told_with_the_remedy(run: Run, options: tuple[str, ...], message: str) -> None:
    code, _, err = run("load", URL, *options)
    assert code == 2
    assert message in " ".join(err.split())


def test_a_server_that_is_not_there_is_one_line(run: Run) -> None:
    code, _, err = run("load", URL, "--rate", "1", "--deadline", "20ms")
    assert code == 1
    assert "127.0.0.1:1 does not answer" in err


def test_rates_shares_and_schedules_are_read(tmp_path: Path) -> None:
    assert Rates().convert("100, 200,400", None, None) == (100.0, 200.0, 400.0)
    assert Share().convert("99.9%", None, None) == pytest.approx(0.999)
    assert Share().convert("0.95", None, None) == 0.95
    (tmp_path / "day.csv").write_text("0\n1\n")
    assert ArrivalsText().convert(str(tmp_path / "day.csv"), None, None).kind is ArrivalKind.RECORDED
    with pytest.raises(click.UsageError):
        Share().convert("99", None, None)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Maximum(0.99, 400, 420, "refuted", ()), "400/s is proven at 99 % (not at 420/s); the server holds no more"),
        (Maximum(0.99, 400, 420, "void", ()), "the generator lags"),
        (Maximum(0.99, None, 10, "refuted", ()), "no rate is proven at 99 %, not even 10/s"),
        (Maximum(0.99, 400, None, "probes", ()), "400/s is proven at 99 %; the search ran out of probes"),
    ],
)
def test_the_maximum_is_told_with_what_bounds_it(found: Maximum, text: str) -> None:
    assert text in maximum_text(found)
