"""What a batch will take from now to its answers, and what follows from it: the batch size and the rate to aim for.

    predicted = correction · law(rows) + outside

``law`` is the profile's p95 (or learned), ``correction`` the p95 of observed by predicted run time over the last
batches of this variant and lane, ``outside`` the p95 of what passes between handing a batch over and hearing that it is
done, beyond its run. So the machine's present state is in every decision: a neighbour that takes a core shows at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import exp, inf
from statistics import median

from setpoint.scheduling.latency_law import LatencyLaw, LearnedLaw, MeasuredLaw
from setpoint.scheduling.quantile import RollingQuantile
from setpoint.scheduling.sizing import BatchSizer
from setpoint.scheduling.terms import ObjectiveTerms, VariantTerms

_WINDOW = 100
"""Batches that the corrections look back."""
_TYPICAL_WEIGHT = 0.05
"""Of the latest batch in the average: about the last twenty count."""
_CROWDED = 1.2
"""Demand over what the fastest variant can hold from which on waiting is reckoned with caution."""
_RISING = 1.2
"""The last second's demand over that of the last ten from which on it counts as rising."""
_OBSERVE_EVERY_NS = 1_000_000
"""Of batches that follow each other faster only some are looked at: a hundred of them would be a blink."""
_PRIOR_WEIGHT = 20
"""Batches that the profile's word counts for at the beginning."""
_LEAST, _MOST = 0.02, 50.0
"""Bounds of a correction. Wide, since a profile is of one shape: longer sequences may take ten times as long."""
_FORGIVEN_AFTER_NS = 1_000_000_000
"""A variant that has not run for so long is given back some trust with every look at the targets: what was seen of it
may have been a neighbour's doing, and without trust it would never run again to show that this has passed."""
_PROBE_EVERY_NS = 200_000_000
"""How often a request that is predicted to be late may run all the same on an idle node, to see whether it would be."""
_LANES_REMEMBERED = 64
"""Lanes with predictions of their own; the least recently used is forgotten."""
_SIZES = (1, 2, 3, *(step << power for power in range(9) for step in (4, 5, 6, 7)))
"""Batch sizes that are compared: each one up to 8, then four to a doubling."""


class Prediction:
    """One variant in one lane.

    Attributes:
        most_rows: the largest batch to form, whatever the time.
        crowded: far more is asked for than can be held.
        tight: not even a single row is sure to be in time. Then what is likely counts, and not what is nearly certain:
            a bound that is held for most is better than an empty promise to hold it for all, and nobody served.
        batch_rows: the batch to aim for: the smallest that reaches all but a few per cent of the attainable rate.
        rows_per_s: that rate, of all workers together; infinite while nothing is known, 0 where no batch is in time.
    """

    __slots__ = (
        "_correction",
        "_factor",
        "_law",
        "_outside",
        "_sizer",
        "_typical",
        "_usual",
        "batch_rows",
        "crowded",
        "most_rows",
        "observed_ns",
        "rows_per_s",
        "tight",
    )

    def __init__(self, variant: VariantTerms, terms: ObjectiveTerms, limit_rows: int, outside: RollingQuantile) -> None:
        self._law: LatencyLaw
        self._sizer: BatchSizer | None = None
        self._usual = 1.0
        if variant.profile is not None:
            self._usual = median([point.p50_ms / point.p95_ms for point in variant.profile.latency])
            self._law = MeasuredLaw.from_profile(variant.profile, limit_rows)
        else:
            self._law = LearnedLaw(limit_rows, grow=terms.has_objective)
            self._sizer = BatchSizer(limit_rows)
        self._outside = outside
        self._correction = RollingQuantile(terms.quantile, _WINDOW, 1.0, _PRIOR_WEIGHT)
        self._factor = 1.0
        self._typical = self._usual
        self.crowded = self.tight = False
        self.observed_ns = 0
        self.most_rows = self._law.most_rows
        self.batch_rows = self.most_rows
        self.rows_per_s = inf

    def ns(self, rows: int) -> float:
        """From now to the answers of a batch of so many rows."""
        if self.tight:
            return self.typical_ns(rows)
        return self._factor * self._law.run_ns(rows) + self._outside.value

    def typical_ns(self, rows: int) -> float:
        """As ``ns``, but what it takes on average."""
        return self._typical * self._law.run_ns(rows) + self._outside.median

    def wait_ns(self, rows: int) -> float:
        """How long those behind such a batch are taken to wait for it; ``LanePredictions.aim`` says why two answers."""
        return self.ns(rows) if self.crowded else self.typical_ns(rows)

    def hoped_ns(self, rows: int) -> float:
        """What a request is let in and kept for.

        Where everybody can be served, whoever is likely to be in time is worth trying; where many must be refused
        anyway, only who is nearly sure to be.
        """
        return self.ns(rows) if self.crowded else self.typical_ns(rows)

    def rows_within(self, budget_ns: float) -> int:
        """The most rows whose answers are there within so long."""
        if self.tight:
            return self._law.rows_within((budget_ns - self._outside.median) / self._typical)
        return self._law.rows_within((budget_ns - self._outside.value) / self._factor)

    def observe(self, rows: int, run_ns: int) -> None:
        """A batch of so many rows ran for so long: correct the prediction."""
        law_ns = self._law.run_ns(rows)
        if law_ns > 0:
            ratio = run_ns / law_ns
            self._correction.add(ratio)
            self._typical += _TYPICAL_WEIGHT * (min(max(ratio, _LEAST), _MOST) - self._typical)
            self._factor = min(max(self._correction.value, _LEAST), _MOST)
        self._law.observe(rows, run_ns)

    def forgive(self) -> None:
        """Nothing was seen of late: lean back towards what the profile says."""
        self._correction.add(1.0)
        self._factor = min(max(self._correction.value, _LEAST), _MOST)
        self._typical += _TYPICAL_WEIGHT * (self._usual - self._typical)

    @property
    def is_doubtful(self) -> bool:
        """Whether the prediction rests on what was seen of late, which may have passed, and not on a profile."""
        return self._sizer is not None or self._factor > 1.0

    def learn(self, rows: int, run_ns: int) -> None:
        """For a variant without a profile: which size of batch is best."""
        if self._sizer is not None:
            self._sizer.observe(None, rows, run_ns)
            self.most_rows = min(self._law.most_rows, self._sizer.batch_rows(None))

    def aim(self, workers: int, bound_ns: int, flat_tolerance: float) -> None:
        """Set ``batch_rows`` and ``rows_per_s``.

        A request arrives, waits at worst for the batch that runs, which with staggered workers ends within a
        ``workers``-th of its time, and runs: (1 + 1/workers) · ns(rows) must be within the bound.
        """
        most_rows = self.most_rows
        self.tight = False
        self.tight = self.ns(1) > bound_ns
        single_ns = self.ns(1)
        if self.typical_ns(1) <= 0:
            self.batch_rows, self.rows_per_s = most_rows, inf
            return
        within = min(most_rows, self.rows_within(bound_ns / (1.0 + 1.0 / workers)))
        if within < 1:
            # Even single rows cannot all wait for the one before: some are in time, if no more come than can run.
            self.batch_rows = 1
            self.rows_per_s = workers * 1e9 / single_ns if single_ns <= bound_ns else 0.0
            return
        sizes = [size for size in _SIZES if size < within]
        sizes.append(within)
        rates = [size / self.typical_ns(size) for size in sizes]
        enough = max(rates) * (1.0 - flat_tolerance)
        at = next(index for index, rate in enumerate(rates) if rate >= enough)
        self.batch_rows, self.rows_per_s = sizes[at], workers * 1e9 * rates[at]


class LanePredictions:
    """One lane: a prediction for each variant, and how much of its work is asked for.

    Attributes:
        variants: most accurate first.
        fastest: the one with the highest attainable rate; ``fastest_index`` is its place.
        easy_rows: while no more than these wait and a worker is idle, a request with all its time is in time.
        sure_rows: while no more than these wait, a request with all its time is in time whatever the workers do now.
        demand_rows_per_s: rows asked for per second, refused ones too.
    """

    __slots__ = (
        "_long",
        "_short",
        "arrived_rows",
        "demand_rows_per_s",
        "easy_rows",
        "fastest",
        "fastest_index",
        "probed_ns",
        "sure_rows",
        "variants",
    )

    def __init__(self, variants: list[Prediction]) -> None:
        self.variants = variants
        self.fastest_index = len(variants) - 1
        self.fastest = variants[-1]
        self.easy_rows = self.sure_rows = 0
        self.probed_ns = 0
        self.arrived_rows = 0
        self._short = self._long = -1.0
        self.demand_rows_per_s = 0.0

    def aim(self, workers: int, bound_ns: int, flat_tolerance: float) -> None:
        """Set every variant's targets, and which is the fastest."""
        for prediction in self.variants:
            prediction.aim(workers, bound_ns, flat_tolerance)
        rates = [prediction.rows_per_s for prediction in self.variants]
        self.fastest_index = max(range(len(rates)), key=rates.__getitem__)
        fastest = self.fastest = self.variants[self.fastest_index]
        # Several batches in a row rarely all take as long as 95 % of them do at most, so on average waiting is shorter
        # than the sum of predictions. With more load than can be held caution costs nothing: who is refused now is
        # replaced by the next one, while who is let in and given up later has waited for nothing.
        crowded = self.demand_rows_per_s > _CROWDED * fastest.rows_per_s
        for prediction in self.variants:
            prediction.crowded = crowded
        # Behind the largest batch of the slowest variant, and with its own batch to run.
        batch_ns = fastest.ns(fastest.batch_rows)
        self.easy_rows = fastest.batch_rows if batch_ns <= bound_ns else 0
        spare_ns = bound_ns - max(each.ns(each.most_rows) for each in self.variants) - 2 * batch_ns
        self.sure_rows = fastest.batch_rows * int(max(0.0, spare_ns / batch_ns) if batch_ns > 0 else 0)

    def may_probe(self, now_ns: int) -> bool:
        """Whether it is time to see for oneself what is predicted to be too slow; to be asked only where one would."""
        fastest = self.fastest
        if not fastest.is_doubtful or now_ns - max(fastest.observed_ns, self.probed_ns) < _PROBE_EVERY_NS:
            return False
        self.probed_ns = now_ns
        return True

    @property
    def rising(self) -> bool:
        """Far more is asked for in the last second than in the last ten: the demand may still be underestimated."""
        return self._short > _RISING * self._long

    def measure_demand(self, elapsed_s: float) -> None:
        """Fold what arrived since the last time into averages over 1 s and 10 s; the higher one counts."""
        rate = self.arrived_rows / elapsed_s
        self.arrived_rows = 0
        if self._short < 0:
            self._short = self._long = rate
        else:
            self._short += (1.0 - exp(-elapsed_s)) * (rate - self._short)
            self._long += (1.0 - exp(-elapsed_s / 10.0)) * (rate - self._long)
        self.demand_rows_per_s = max(self._short, self._long)


class Predictor:
    """The predictions of one model, by lane."""

    def __init__(
        self,
        terms: ObjectiveTerms,
        lane_limit_rows: Callable[[Hashable], int] | None = None,
        on_forget: Callable[[Hashable], None] = lambda key: None,
    ) -> None:
        """Know no lanes; ``on_forget`` is told of each whose predictions are no longer kept up to date."""
        self._terms = terms
        self._on_forget = on_forget
        self._lane_limit_rows = lane_limit_rows
        self._outside = RollingQuantile(terms.quantile, _WINDOW, 0.0, _PRIOR_WEIGHT)
        self._lanes: OrderedDict[Hashable, LanePredictions] = OrderedDict()
        self._workers = 1
        self._within_ns = terms.bound_ns - terms.margin_ns
        self._observe_again_ns = 0

    def lane(self, key: Hashable) -> LanePredictions:
        """The predictions of a lane; a new one begins with what the profiles say."""
        lane = self._lanes.get(key)
        if lane is None:
            terms = self._terms
            limit_rows = terms.batch_limit_rows
            if self._lane_limit_rows is not None and key is not None:
                limit_rows = max(1, min(limit_rows, self._lane_limit_rows(key)))
            lane = LanePredictions([Prediction(each, terms, limit_rows, self._outside) for each in terms.variants])
            lane.aim(self._workers, self._within_ns, self._terms.flat_tolerance)
            self._lanes[key] = lane
            if len(self._lanes) > _LANES_REMEMBERED:
                self._on_forget(self._lanes.popitem(last=False)[0])
        return lane

    def observe(self, key: Hashable, variant: int, rows: int, run_ns: int, elapsed_ns: int, now_ns: int) -> None:
        """A batch ran for ``run_ns`` and was back ``elapsed_ns`` after it was handed over."""
        lane = self.lane(key)
        if len(self._lanes) > 1:
            self._lanes.move_to_end(key)
        prediction = lane.variants[variant]
        prediction.observed_ns = now_ns
        if now_ns >= self._observe_again_ns:
            self._observe_again_ns = now_ns + _OBSERVE_EVERY_NS
            prediction.observe(rows, run_ns)
            self._outside.add(max(0, elapsed_ns - run_ns))
        prediction.learn(rows, run_ns)

    def refresh(self, workers: int, elapsed_s: float, now_ns: int) -> tuple[list[float], bool]:
        """Look at demand and targets anew; called some times a second.

        Returns:
            for each variant, the demand as a share of what it can hold (1 is all of it); whether demand is rising fast.
        """
        terms = self._terms
        self._workers = max(1, workers)
        use = [0.0] * len(terms.variants)
        rising = False
        for lane in self._lanes.values():
            lane.measure_demand(elapsed_s)
            if lane.demand_rows_per_s < 1e-3:
                continue  # nobody asks: what it aimed for last is good enough until somebody does
            rising |= lane.rising
            for prediction in lane.variants:
                if now_ns - prediction.observed_ns > _FORGIVEN_AFTER_NS:
                    prediction.forgive()
            lane.aim(self._workers, self._within_ns, terms.flat_tolerance)
            for index, prediction in enumerate(lane.variants):
                attainable = prediction.rows_per_s
                use[index] += lane.demand_rows_per_s / attainable if attainable > 0 else inf
        return use, rising


def held_rows_per_s(terms: ObjectiveTerms, workers: int) -> list[float]:
    """What so many workers hold with each variant alone, by their profiles; infinite where there is none."""
    lane = Predictor(terms).lane(None)
    lane.aim(workers, terms.bound_ns - terms.margin_ns, terms.flat_tolerance)
    return [prediction.rows_per_s for prediction in lane.variants]
