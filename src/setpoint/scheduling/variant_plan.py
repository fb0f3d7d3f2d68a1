"""Which variants the present load allows, and in which mixture: accuracy per capacity, without flapping."""

from __future__ import annotations

from collections.abc import Sequence

from setpoint.scheduling.terms import ObjectiveTerms

_MOST_CREDIT_ROWS = 256.0
"""Credit that a variant may save up or owe; more would be an answer to a load of long ago."""


class VariantPlan:
    """Judges some times a second, by the load; asked with every batch.

    A variant is *sustainable* while it could hold the load alone: left at once when it cannot, returned to only after
    the load has been clearly lower for a while. A batch may use a sustainable variant, or any that empties the queue.

    Where only the fastest is left as sustainable, that would leave capacity unused which a more accurate one could turn
    into better answers. Then there is a *mixture*: the shares of answers with the highest mean accuracy that all
    workers can hold together. Each variant earns its share of every row served and pays for the rows it serves itself;
    it may run while it has credit. What has no share in the mixture does not run at all, not even to empty the queue:
    that is capacity which the mixture has spent already.
    """

    __slots__ = ("_accuracies", "_credit_rows", "_low_since_ns", "_terms", "shares", "sustainable")

    def __init__(self, terms: ObjectiveTerms) -> None:
        count = len(terms.variants)
        self._terms = terms
        self._accuracies = [variant.accuracy for variant in terms.variants]
        self._low_since_ns = [0] * count
        self._credit_rows = [0.0] * count
        self.sustainable = [True] * count
        self.shares: list[float] | None = None

    def judge(self, use: Sequence[float], rising: bool, now_ns: int) -> None:
        """Take in the present load.

        Args:
            use: for each variant, demand as a share of what all workers could hold with it alone.
            rising: the load is growing so fast that a mixture would be for less than there is.
        """
        if len(use) == 1:
            return  # there is nothing to choose
        terms = self._terms
        for index, share in enumerate(use):
            if share > terms.leave_above:
                self.sustainable[index] = False
            if share >= terms.return_below:
                self._low_since_ns[index] = now_ns
            elif now_ns - self._low_since_ns[index] >= terms.return_after_ns:
                self.sustainable[index] = True
        fastest = min(range(len(use)), key=use.__getitem__)
        others = any(holds for index, holds in enumerate(self.sustainable) if index != fastest)
        # Beyond what even the fastest holds there is nothing to mix: the mixture is the fastest alone.
        if not others and (not rising or use[fastest] > terms.leave_above):
            if self.shares is None:
                self._credit_rows = [0.0] * len(use)
            self.shares = best_shares(use, self._accuracies, terms.leave_above)
        else:
            self.shares = None

    def allows(self, variant: int, *, empties: bool) -> bool:
        """Whether a batch may use this variant as far as the load is concerned.

        Args:
            empties: the batch leaves nothing waiting.
        """
        if self.shares is None:
            return empties or self.sustainable[variant]
        return self.shares[variant] > 0.0 and (empties or self._credit_rows[variant] >= 0.0)

    def served(self, variant: int, rows: int) -> None:
        """A batch of so many rows uses this variant."""
        if self.shares is None:
            return
        credit = self._credit_rows
        for index, share in enumerate(self.shares):
            credit[index] = min(credit[index] + share * rows, _MOST_CREDIT_ROWS)
        credit[variant] = max(credit[variant] - rows, -_MOST_CREDIT_ROWS)


def best_shares(use: Sequence[float], accuracies: Sequence[float], target: float) -> list[float]:
    """The shares with the highest mean accuracy whose mean use is within the target; the fastest's alone if none is.

    A linear programme with one constraint, so one or two variants have all shares: every pair is tried.
    """
    fastest = min(range(len(use)), key=use.__getitem__)
    best = [0.0] * len(use)
    best[fastest] = 1.0
    best_accuracy = accuracies[fastest]
    for one in range(len(use)):
        for other in range(len(use)):
            if use[other] > target:
                continue
            share = 1.0 if use[one] <= target else (target - use[other]) / (use[one] - use[other])
            accuracy = share * accuracies[one] + (1.0 - share) * accuracies[other]
            if accuracy > best_accuracy + 1e-12:
                best_accuracy = accuracy
                best = [0.0] * len(use)
                best[other] = 1.0 - share
                best[one] += share
    return best
