"""Answers are judged by what they are for, and a worse variant is seen to be worse by every metric."""

import numpy as np
import pytest

from setpoint.core import InvalidConfiguration
from setpoint.optimize.metrics import Judge, choose

RANDOM = np.random.default_rng(5)
ROWS = 600
LABELS = RANDOM.integers(0, 4, ROWS)


def scores(accuracy: float, seed: int = 0) -> np.ndarray:
    """Scores of four classes, right in about that share of the rows."""
    random = np.random.default_rng(seed)
    decided = np.where(random.random(ROWS) < accuracy, LABELS, (LABELS + 1) % 4)
    return (np.eye(4)[decided] + 0.1 * random.random((ROWS, 4))).astype(np.float32)


def vectors(noise: float) -> np.ndarray:
    clean = np.random.default_rng(1).standard_normal((ROWS, 16))
    noisy = clean + noise * np.random.default_rng(2).standard_normal(clean.shape)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("outputs", "labels", "metric"),
    [
        ({"logits": scores(1.0)}, LABELS, "accuracy"),
        ({"label": LABELS, "p": scores(1.0)}, None, "agreement"),
        ({"p": np.exp(scores(1.0)) / np.exp(scores(1.0)).sum(1, keepdims=True)}, None, "agreement"),
        ({"embedding": vectors(0.0)}, None, "cosine"),
        ({"y": RANDOM.random(ROWS).astype(np.float32)}, None, "rmse"),
        ({"y": RANDOM.random((ROWS, 1)).astype(np.float32)}, RANDOM.random(ROWS), "rmse"),
        ({"embedding": vectors(0.0)}, vectors(0.1), "cosine"),
    ],
)
def test_labels_and_answers_suggest_the_metric(outputs, labels, metric) -> None:
    assert choose(outputs, labels) == metric


@pytest.mark.parametrize("metric", ["accuracy", "f1", "roc-auc", "top5"])
def test_a_worse_variant_loses_by_every_metric_of_labels(metric: str) -> None:
    if metric == "top5":  # more classes than five, so that it can fail
        wide = np.concatenate([scores(0.95), np.full((ROWS, 4), 0.5, np.float32)], axis=1)
        worse = wide.copy()
        worse[: ROWS // 5, :4] = -1.0
        worse[: ROWS // 5, 4:] = 1.0
        before, after = wide, worse
    else:
        before, after = scores(0.95), scores(0.75)
    judge = Judge(metric, {"logits": before}, LABELS)
    same, worse_verdict = judge.judge({"logits": before}), judge.judge({"logits": after})
    assert same.loss.value == 0.0
    assert same.loss.high < 0.05
    assert worse_verdict.loss.low > 0.0, "certainly worse"
    assert worse_verdict.after < worse_verdict.before
    assert worse_verdict.loss.left < same.loss.left


def test_without_labels_disagreement_is_the_loss() -> None:
    judge = Judge("agreement", {"p": scores(1.0)}, None)
    verdict = judge.judge({"p": scores(0.9)})
    assert 0.06 < verdict.loss.value < 0.14
    assert verdict.before == 1.0


def test_vectors_lose_by_their_angle() -> None:
    judge = Judge("", {"embedding": vectors(0.0)}, None)
    assert judge.metric == "cosine"
    near, far = judge.judge({"embedding": vectors(0.02)}), judge.judge({"embedding": vectors(0.3)})
    assert near.loss.high < 0.005 < 0.03 < far.loss.low


def test_regression_loses_in_shares_of_the_original_error() -> None:
    truth = RANDOM.random((ROWS, 1))
    before = truth + 0.1 * RANDOM.standard_normal((ROWS, 1))
    judge = Judge("rmse", {"y": before.astype(np.float32)}, truth)
    verdict = judge.judge({"y": (truth + 1.5 * (before - truth)).astype(np.float32)})
    assert verdict.loss.value == pytest.approx(0.5, abs=0.01)
    assert verdict.loss.low > 0.4


def test_bytes_labels_are_compared_as_text() -> None:
    names = np.array(["cat", "dog"])[LABELS % 2]
    answers = np.array([name.encode() for name in names], np.object_)
    wrong = answers.copy()
    wrong[:60] = b"fish"
    judge = Judge("", {"label": answers}, names)
    assert judge.judge({"label": wrong}).loss.value == pytest.approx(0.1)


def test_the_users_function_may_score_rows_or_all_of_them() -> None:
    def by_row(outputs, labels):
        return (outputs["logits"].argmax(1) == labels).astype(float)

    def of_all(outputs, labels):
        return float(by_row(outputs, labels).mean())

    before, after = {"logits": scores(0.95)}, {"logits": scores(0.85)}
    rows, whole = (Judge("", before, LABELS, user).judge(after) for user in (by_row, of_all))
    assert (rows.metric, whole.metric) == ("by_row", "of_all")
    assert rows.loss.value == pytest.approx(whole.loss.value)
    assert rows.loss.high == pytest.approx(whole.loss.high, abs=0.02)
    unchanged = Judge("", before, LABELS, by_row).judge(before)
    assert unchanged.loss.high > 0.0, "rows that are right or wrong: what was not seen is allowed for"
    with pytest.raises(InvalidConfiguration, match="expected one score for each of 600 rows"):
        Judge("", before, LABELS, lambda outputs, labels: np.zeros(3)).judge(after)


def test_answers_of_another_shape_are_no_answers() -> None:
    verdict = Judge("accuracy", {"logits": scores(1.0)}, LABELS).judge({"logits": scores(1.0)[:, :3]})
    assert verdict.loss.left == 0.0


def test_a_metric_without_what_it_needs_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidConfiguration, match=r"accuracy needs labels: put one more array into the \.npz"):
        Judge("accuracy", {"logits": scores(1.0)}, None)
    with pytest.raises(InvalidConfiguration, match="there is no metric 'acuracy'; expected one of accuracy"):
        Judge("acuracy", {"logits": scores(1.0)}, LABELS)
