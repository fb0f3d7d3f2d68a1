"""What a model's scheduler is told to hold, from its objective, its bundle and this machine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from scripted import BUNDLE

from setpoint.core import InvalidConfiguration, LatencyPoint, Limits, Objective, Profile, Variant
from setpoint.node.config import ModelConfig
from setpoint.node.judgement import best_layout, judged_elsewhere, policy_of, terms_of
from setpoint.scheduling import FixedPolicy, FixedTerms

HERE, ELSEWHERE = "this machine", "another machine"
LIMITS = Limits()


def here(engine: str) -> str:
    assert engine == "onnxruntime"
    return HERE


def profile(variant: str, row_ms: float, threads: int = 1, hardware: str = HERE) -> Profile:
    points = tuple(LatencyPoint(rows, row_ms * rows, row_ms * rows, row_ms * rows, 50) for rows in (1, 2, 4, 8))
    return Profile(variant, threads, hardware, points, 0, 1.0, 1.0)


def config(objective: str | None, *profiles: Profile, **more: object) -> ModelConfig:
    variants = (
        Variant("fp32", "onnxruntime", "a.onnx"),
        Variant("int8", "onnxruntime", "b.onnx", accuracy=0.99),
        Variant("tiny", "onnxruntime", "c.onnx", accuracy=0.9),
    )
    manifest = msgspec.structs.replace(BUNDLE.manifest, variants=variants, profiles=profiles)
    bundle = msgspec.structs.replace(BUNDLE, manifest=manifest)
    parsed = Objective.parse(objective) if objective else None
    return ModelConfig(bundle, Path("nowhere"), objective=parsed, **more)  # type: ignore[arg-type]


ALL = (profile("fp32", 4.0), profile("int8", 2.0), profile("tiny", 1.0))


def names(given: ModelConfig) -> tuple[str, ...]:
    return policy_of(given, LIMITS, here)[1]


def test_only_the_original_answers_where_nobody_said_that_accuracy_may_be_lost() -> None:
    assert names(config("p99<=20ms", *ALL)) == ("fp32",)
    assert names(config(None, *ALL)) == ("fp32",)


def test_variants_above_the_floor_are_held_ready_most_accurate_first() -> None:
    assert names(config("p99<=20ms, drop<=2%", *ALL)) == ("fp32", "int8")
    assert names(config("p99<=20ms, drop<=20%", *ALL)) == ("fp32", "int8", "tiny")


def test_what_was_measured_on_another_machine_or_with_other_threads_does_not_count() -> None:
    moved = [msgspec.structs.replace(each, hardware=ELSEWHERE) for each in ALL]
    assert names(config("p99<=20ms, drop<=20%", *moved)) == ("fp32",)
    assert names(config("p99<=20ms, drop<=20%", *ALL, threads=2)) == ("fp32",)


def test_variants_that_were_judged_elsewhere_are_known_to_be() -> None:
    moved = [msgspec.structs.replace(each, hardware=ELSEWHERE) for each in ALL]
    assert judged_elsewhere(config("p99<=20ms, drop<=2%", *moved), here)
    assert not judged_elsewhere(config("p99<=20ms, drop<=2%", *ALL), here)
    assert not judged_elsewhere(config("p99<=20ms", *moved), here), "no variant would serve anyway"


@pytest.mark.parametrize(
    ("room_mib", "held"),
    [
        (0, ("fp32", "int8", "tiny")),
        (2 * (32 + 170), ("fp32", "int8", "tiny")),
        (2 * (32 + 169), ("fp32", "tiny")),
        (2 * (32 + 119), ("fp32",)),
        (10, ("fp32",)),
    ],
)
def test_of_the_front_as_much_is_loaded_as_fits_the_original_and_the_fastest_first(
    room_mib: int, held: tuple[str, ...]
) -> None:
    sizes = {"fp32": 100, "int8": 50, "tiny": 20}
    measured = [msgspec.structs.replace(each, memory_bytes=sizes[each.variant] << 20) for each in ALL]
    assert names(config("p99<=20ms, drop<=20%", *measured, workers=2, room_bytes=room_mib << 20)) == held


def test_a_variant_that_is_asked_for_by_name_is_the_only_one() -> None:
    assert names(config("p99<=20ms, drop<=20%", *ALL, variant="tiny")) == ("tiny",)
    with pytest.raises(InvalidConfiguration, match="no variant 'int4'; it has fp32, int8, tiny"):
        config(None, variant="int4")


def test_the_bound_is_the_objective_s_and_without_one_as_long_as_a_request_may_live() -> None:
    assert terms_of(config("p99<=20ms"), LIMITS, here).bound_ns == 20_000_000
    without = terms_of(config(None), LIMITS, here)
    assert (without.bound_ns, without.has_objective) == (int(LIMITS.request_timeout_s * 1e9), False)


def test_a_stated_batching_policy_is_taken_as_it_is_and_excludes_an_objective() -> None:
    policy, held = policy_of(config(None, *ALL, batching=FixedTerms(4, 100)), LIMITS, here)
    assert isinstance(policy, FixedPolicy)
    assert held == ("fp32",)
    with pytest.raises(InvalidConfiguration, match="exclude each other"):
        config("p99<=20ms", batching=FixedTerms(4))


def test_the_layout_is_the_one_in_which_the_fastest_allowed_variant_holds_most() -> None:
    measured = (*ALL, profile("fp32", 1.5, threads=2), profile("int8", 1.5, threads=2))
    assert best_layout(config("p99<=60ms", *measured), LIMITS, here, 2) == (1, 2)
    assert best_layout(config("p99<=60ms, drop<=2%", *measured), LIMITS, here, 2) == (2, 1)
    assert best_layout(config("p99<=60ms", *measured), LIMITS, lambda engine: ELSEWHERE, 2) is None
    assert best_layout(config("p99<=1ms", *measured), LIMITS, here, 2) is None


def test_more_threads_for_each_run_must_hold_a_good_deal_more() -> None:
    measured = (*ALL, profile("fp32", 1.9, threads=2))
    assert best_layout(config("p99<=60ms", *measured), LIMITS, here, 2) == (2, 1), (
        "5 % more is what they lose by waiting"
    )
