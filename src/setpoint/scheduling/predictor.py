"""The predictions of one model: by lane and variant, corrected as batches come back, beside how much is asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import exp, inf

from setpoint.scheduling.prediction import PRIOR_WEIGHT, WINDOW, Prediction
from setpoint.scheduling.quantile import RollingQuantile
from setpoint.scheduling.terms import ObjectiveTerms

_CROWDED = 1.2
"""Demand over what the fastest variant can hold from which on waiting is reckoned with caution."""
_CAREFUL = 0.4
"""Demand beyond what the fastest variant can hold, as a share of it, from which on caution is complete."""
_RISING = 1.2
"""The last second's demand over that of the last ten from which on it counts as rising."""
_OBSERVE_EVERY_NS = 1_000_000
"""Of batches that follow each other faster only some are looked at: a hundred of them would be a blink."""
_FORGIVEN_AFTER_NS = 1_000_000_000
"""A variant that has not run for so long is given back some trust with every look at the targets: what was seen of it
may have been a neighbour's doing, and without trust it would never run again to show that this has passed."""
_PROBE_EVERY_NS = 200_000_000
"""How often a request that is predicted to be late may run all the same on an idle node, to see whether it would be."""
_WAITING_FOR_EACH_OTHER = 1.1
_LANES_REMEMBERED = 64
"""Lanes with predictions of their own; the least recently used is forgotten."""


class LanePredictions:
    """One lane: a prediction for each variant, and how much of its work is asked for.

    Attributes:
        variants: most accurate first.
        fastest: the one with the highest attainable rate; ``fastest_index`` is its place.
        easy_rows: while no more than these wait and a worker is idle, a request with all its time is in time.
        sure_rows: while no more than these wait, a request with all its time is in time whatever the workers do now.
        demand_rows_per_s: rows asked for per second, refused ones too; the more of the last second and the last ten.
        lately_rows_per_s: of the last second; negative before the first look.
        caution: 0 where all that is asked for can be held, up to 1 where far more is asked for.
    """

    __slots__ = (
        "_long",
        "arrived_rows",
        "caution",
        "demand_rows_per_s",
        "easy_rows",
        "fastest",
        "fastest_index",
        "lately_rows_per_s",
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
        self.lately_rows_per_s = self._long = -1.0
        self.demand_rows_per_s = self.caution = 0.0

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
        use = self.demand_rows_per_s / fastest.rows_per_s if fastest.rows_per_s > 0 else inf
        self.caution = min(max(0.0, (use - 1.0) / _CAREFUL), 1.0)
        for prediction in self.variants:
            prediction.crowded = use > _CROWDED
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
        return self.lately_rows_per_s > _RISING * self._long

    def measure_demand(self, elapsed_s: float) -> None:
        """Fold what arrived since the last time into averages over 1 s and 10 s; the higher one counts."""
        rate = self.arrived_rows / elapsed_s
        self.arrived_rows = 0
        if self.lately_rows_per_s < 0:
            self.lately_rows_per_s = self._long = rate
        else:
            self.lately_rows_per_s += (1.0 - exp(-elapsed_s)) * (rate - self.lately_rows_per_s)
            self._long += (1.0 - exp(-elapsed_s / 10.0)) * (rate - self._long)
        self.demand_rows_per_s = max(self.lately_rows_per_s, self._long)


class Predictor:
    """The predictions of one model, by lane.

    Attributes:
        spare_ns: what the bound leaves beyond the run of a batch, in the lane where that is most; as of ``refresh``.
        row_ns: what a row costs all workers together, in the lane where that is most; likewise.
        scarce: in the last second more was asked for than the fastest variants hold; likewise.
    """

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
        self._outside = RollingQuantile(terms.quantile, WINDOW, 0.0, PRIOR_WEIGHT)
        self._lanes: OrderedDict[Hashable, LanePredictions] = OrderedDict()
        self._workers = 1
        self._within_ns = terms.bound_ns - terms.margin_ns
        self._observe_again_ns = 0
        self.spare_ns = self.row_ns = 0.0
        self.scarce = False

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
        self.spare_ns = self.row_ns = lately = 0.0
        for lane in self._lanes.values():
            lane.measure_demand(elapsed_s)
            if lane.demand_rows_per_s < 1e-3:
                continue  # nobody asks: what it aimed for last is good enough until somebody does
            rising |= lane.rising
            for prediction in lane.variants:
                if now_ns - prediction.observed_ns > _FORGIVEN_AFTER_NS:
                    prediction.forgive()
            lane.aim(self._workers, self._within_ns, terms.flat_tolerance)
            if 0 < lane.fastest.rows_per_s < inf:
                self.row_ns = max(self.row_ns, 1e9 / lane.fastest.rows_per_s)
                lately += lane.lately_rows_per_s / lane.fastest.rows_per_s
            self.spare_ns = max(self.spare_ns, self._within_ns - lane.fastest.ns(lane.fastest.batch_rows))
            for index, prediction in enumerate(lane.variants):
                attainable = prediction.rows_per_s
                use[index] += lane.demand_rows_per_s / attainable if attainable > 0 else inf
        self.scarce = lately > 1.0
        return use, rising


def held_rows_per_s(terms: ObjectiveTerms, workers: int) -> list[float]:
    """What so many workers hold with each variant alone, by their profiles; infinite where there is none."""
    lane = Predictor(terms).lane(None)
    lane.aim(workers, terms.bound_ns - terms.margin_ns, terms.flat_tolerance)
    return [prediction.rows_per_s for prediction in lane.variants]


def worth_per_s(rows_per_s: float, threads: int) -> float:
    """What a rate that was measured or foretold counts for when layouts of workers and threads are compared.

    Threads of a run wait for each other: what else a core does (the node, clients, neighbours) holds up all of them,
    which a profile does not show. A network whose profiles hold the same was in time for .93 of 1,740 requests/s with
    two workers of one thread, for .80 with one of two.
    """
    return rows_per_s if threads == 1 else rows_per_s / _WAITING_FOR_EACH_OTHER
