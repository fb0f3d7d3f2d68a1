"""Hold the objective: earliest deadline first, never idle while work waits, accuracy given up last.

* **Admission.** A request is let in when the fastest variant, in batches of its best size, would answer all that is
  before it and then it within its deadline. Otherwise it is refused within microseconds: that costs the client nothing,
  while a late answer costs everybody behind it.
* **Variant**, batch by batch: the most accurate one whose batch leaves the rest of the queue feasible for the fastest,
  and which could hold the present load, or whose batch empties the queue.
* **Giving up**, when predictions were wrong: if the most urgent request leaves time for a small batch only and the rest
  could not be served behind that, it is refused, and the next one may bring a full batch. Running small batches to
  save single requests is how a deadline-first queue collapses under overload.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from heapq import heapreplace
from math import isinf
from typing import TypeVar, cast

from setpoint.scheduling.actions import Reason, Refuse, Start
from setpoint.scheduling.deadline_queue import ALONE, DeadlineQueue, Lane
from setpoint.scheduling.policy import Policy, Pool
from setpoint.scheduling.prediction import Prediction
from setpoint.scheduling.predictor import LanePredictions, Predictor
from setpoint.scheduling.reserve import Reserve
from setpoint.scheduling.schedulable import Schedulable
from setpoint.scheduling.shares import FairShares
from setpoint.scheduling.terms import ObjectiveTerms
from setpoint.scheduling.variant_plan import VariantPlan

T = TypeVar("T", bound=Schedulable)
_LOOK_AHEAD_BATCHES = 64
"""Batches of the rest that are checked before a slower variant is chosen; beyond it nothing would be learned."""
_HARDLY_LONGER = 1.1
"""How much longer a batch of those within their shares may run for rows of those who crowd the queue."""


class ObjectivePolicy(Policy[T]):
    """One model's queue and judgement."""

    def __init__(self, terms: ObjectiveTerms, lane_limit_rows: Callable[[Hashable], int] | None = None) -> None:
        """Queue nothing yet.

        Args:
            lane_limit_rows: the largest batch that a lane can have at all, where that may be less than the terms say.
        """
        self.terms = terms
        self.queue: DeadlineQueue[T] = DeadlineQueue()
        self._predictor = Predictor(terms, lane_limit_rows, self.queue.forget)
        self._has_objective = terms.has_objective
        self._shares = FairShares(terms.weights, terms.bound_ns if terms.has_objective else 0)
        self._plan = VariantPlan(terms)
        self._bound_ns = terms.bound_ns
        self._margin_ns = terms.margin_ns
        self._limit_rows = terms.queue_limit_rows
        self._reserve = Reserve(terms.bound_ns)
        self._probe: T | None = None
        self._ticked_ns = -1

    # --- requests come and go ------------------------------------------------------------------------------------

    def admit(self, request: T, pool: Pool, now_ns: int) -> Refuse[T] | None:
        """Let a request wait, or say which limit it met."""
        latest_ns = now_ns + self._bound_ns
        if not 0 < request.deadline_ns < latest_ns:
            request.deadline_ns = latest_ns
        queue = self.queue
        rows = request.rows
        lane = queue.lane(ALONE if request.lane is None else request.lane)
        laws = lane.memo or self._laws_of(lane, request)
        laws.arrived_rows += rows
        waiting_rows = queue.rows + rows
        if waiting_rows > self._limit_rows and queue.requests:
            return self._refuse(request, Reason.QUEUE_FULL, laws, self._limit_rows, pool, now_ns)
        shares = self._shares
        several = shares.several
        if not several and request.tenant != shares.only:
            several = shares.is_several(request.tenant, queue, now_ns)
        lead_ns = shares.lead_ns(request, self._row_ns(laws), now_ns) if several else 0
        if self._has_objective:
            # Light load needs no judgement: it fits into an idle worker's batch, or is sure to be in time in any case.
            easy = waiting_rows <= laws.easy_rows if pool.idle else waiting_rows <= laws.sure_rows
            if not easy or request.deadline_ns != latest_ns:
                refusal = self._judge(request, lead_ns, lane, laws, pool, now_ns)
                if refusal is not None:
                    return refusal
        queue.enter(lane, request, lead_ns)
        self.requests = queue.requests
        if several:
            self._shares.entered(request)
        return None

    def _judge(
        self, request: T, lead_ns: int, lane: Lane[T], laws: LanePredictions, pool: Pool, now_ns: int
    ) -> Refuse[T] | None:
        """Whether a request would be answered in time, by what is predicted."""
        budget_ns = request.deadline_ns - self._margin_ns - now_ns
        alone_ns = laws.fastest.reckoned_ns(request.rows)
        if alone_ns > budget_ns:
            # Nothing is learned from what is refused: on an idle node one is let through now and then, and corrects us.
            if pool.idle and not self.queue.requests and laws.may_probe(now_ns):
                self._probe = request
                return None
            return self._refuse(request, Reason.HOPELESS, laws, alone_ns / 1e6, pool, now_ns)
        wait_ns = self._wait_ns(request, lead_ns, lane, laws, pool, now_ns)
        # Whoever is within its share among others is not who crowds the queue: the reserve is not at its expense.
        caution = laws.caution if lead_ns or not self._shares.several else 0.0
        if wait_ns > budget_ns - caution * self._reserve.ns:
            self._reserve.refused_early += 1
            reason = Reason.OVER_SHARE if lead_ns else Reason.OVERLOAD
            return self._refuse(request, reason, laws, wait_ns / 1e6, pool, now_ns)
        return None

    def _wait_ns(
        self, request: T, lead_ns: int, lane: Lane[T], laws: LanePredictions, pool: Pool, now_ns: int
    ) -> float:
        """From now to the request's answer, if the fastest variant serves what is before it in batches of its aim."""
        queue = self.queue
        fastest = laws.fastest
        order_ns = request.deadline_ns + lead_ns
        batch_rows = self._batch_rows(lane, fastest)
        batches, beside = divmod(lane.rows_before(order_ns), batch_rows)
        others_ns = 0.0
        if len(queue.lanes) > (1 if lane.items else 0):
            for other in queue.lanes.values():
                if other is not lane and (rows := other.rows_before(order_ns)):
                    aim = self._laws_of(other, other.items[0]).fastest
                    size = self._batch_rows(other, aim)
                    full, rest = divmod(rows, size)
                    others_ns += full * aim.reckoned_ns(size) + (aim.reckoned_ns(rest) if rest else 0.0)
        begin_ns = pool.start_ns(batches, fastest.reckoned_ns(batch_rows), now_ns)
        begin_ns += others_ns / max(1, pool.workers)
        return begin_ns - now_ns + fastest.reckoned_ns(batch_rows if batches else beside + request.rows)

    def put_back(self, request: T, pool: Pool, now_ns: int) -> None:
        """Wait again."""
        several = self._shares.is_several(request.tenant, self.queue, now_ns)
        self.queue.push(request)
        self.requests = self.queue.requests
        if several:
            self._shares.entered(request)

    def remove(self, request: T) -> bool:
        """Take a waiting request out."""
        if not self.queue.remove(request):
            return False
        self.requests = self.queue.requests
        if self._shares.several:
            self._shares.left(request)
        return True

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self.queue.rows

    def __iter__(self) -> Iterator[T]:
        """What waits."""
        return iter(self.queue)

    def drain(self) -> list[T]:
        """Take everything out."""
        requests = self.queue.drain()
        self.requests = 0
        if self._shares.several:
            for request in requests:
                self._shares.left(request)
        return requests

    # --- batches -------------------------------------------------------------------------------------------------

    def take(self, worker: int, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> Start[T] | None:
        """The next batch, and what is given up for it."""
        queue = self.queue
        while (lane := queue.first_lane()) is not None:
            laws = lane.memo or self._laws_of(lane, lane.items[0])
            best = laws.variants[0]
            # Light load, in short: all that waits runs with the most accurate variant, if the first request has time.
            if (
                lane.rows <= best.most_rows
                and lane.rows == queue.rows
                and not lane.mixed
                and lane.key is not ALONE
                and self._plan.allows(0, empties=True)
                and now_ns + best.ns(lane.rows) + self._margin_ns <= lane.items[0].deadline_ns
            ):
                return self._start(worker, 0, lane, laws, len(lane.items), lane.rows)
            target_rows = self._target_rows(lane, laws.fastest)
            tightest = self._tightest(lane, target_rows)
            limiting = lane.items[tightest]
            budget_ns = limiting.deadline_ns - self._margin_ns - now_ns
            if limiting is self._probe and tightest == 0 and budget_ns > 0:
                self._probe = None
                return self._start(worker, laws.fastest_index, lane, laws, 1, limiting.rows)
            hopeless = budget_ns < (laws.fastest.reckoned_ns(limiting.rows) if self._has_objective else 0)
            picked = None if hopeless else self._pick(lane, laws, budget_ns, target_rows, pool, now_ns)
            if picked is None:
                self._give_up(lane, tightest, laws, pool, now_ns, refused)
                continue
            variant, count, rows = picked
            return self._start(worker, variant, lane, laws, count, rows)
        return None

    def _start(
        self, worker: int, variant: int, lane: Lane[T], laws: LanePredictions, count: int, rows: int
    ) -> Start[T]:
        self._plan.served(variant, rows)
        requests = self.queue.take(lane, count, rows)
        self.requests = self.queue.requests
        if self._shares.several:
            self._shares.served(requests, self._row_ns(laws))
        return Start(worker, variant, requests, rows, int(laws.variants[variant].reckoned_ns(rows)))

    def _pick(
        self, lane: Lane[T], laws: LanePredictions, budget_ns: int, target_rows: int, pool: Pool, now_ns: int
    ) -> tuple[int, int, int] | None:
        """Variant, requests and rows of the next batch; None if its most urgent request must go for the rest."""
        plan = self._plan
        queue_rows = self.queue.rows
        fastest_index = laws.fastest_index
        most_rows = self.terms.batch_limit_rows if lane.key is not ALONE and not lane.mixed else target_rows
        for index, prediction in enumerate(laws.variants):
            within = prediction.rows_within(budget_ns)
            if within < lane.items[0].rows and index != fastest_index:
                continue
            count, rows = lane.count_within(min(within, most_rows, prediction.most_rows))
            empties = rows == queue_rows
            if (empties and plan.allows(index, empties=True)) or not self._has_objective:
                return index, count, rows
            if index != fastest_index:
                if not plan.allows(index, empties=empties):
                    continue
            elif rows >= min(target_rows, lane.rows):
                return index, count, rows
            reserve_ns = 0.0 if index == fastest_index else self._reserve.ns
            if self._rest_feasible(lane, count, int(prediction.reckoned_ns(rows) + reserve_ns), pool, now_ns):
                return index, count, rows
            if index == fastest_index:
                return None
        raise AssertionError("the fastest variant is one of the variants")

    def _rest_feasible(self, lane: Lane[T], count: int, batch_ns: int, pool: Pool, now_ns: int) -> bool:
        """Whether all but the first ``count`` of the lane make their deadlines behind this batch, with the fastest."""
        free_ns = [now_ns + batch_ns, *[now_ns] * (len(pool.idle) - 1)]
        free_ns += [max(now_ns, until_ns) for until_ns in pool.busy_until_ns]
        free_ns.sort()
        looked_at = 0
        lanes = self.queue.lanes
        ordered = [lane] if len(lanes) == 1 else sorted(lanes.values(), key=lambda each: each.items[0].order_ns)
        for each in ordered:
            items = each.items
            fastest = self._laws_of(each, items[0]).fastest
            batch_rows = self._batch_rows(each, fastest)
            step = max(1, batch_rows * len(items) // each.rows)
            run_ns = int(fastest.reckoned_ns(min(batch_rows, each.rows)))
            for place in range(count if each is lane else 0, len(items), step):
                if free_ns[0] + run_ns > items[place].deadline_ns - self._margin_ns:
                    return False
                heapreplace(free_ns, free_ns[0] + run_ns)
                looked_at += 1
                if looked_at >= _LOOK_AHEAD_BATCHES:
                    return True
        return True

    def _batch_rows(self, lane: Lane[T], prediction: Prediction) -> int:
        if lane.key is ALONE:
            return 1
        # Who crowds the queue must not make the runs long that those within their shares wait for and are part of.
        return prediction.brisk_rows if self._shares.uneven else prediction.batch_rows

    def _target_rows(self, lane: Lane[T], prediction: Prediction) -> int:
        """Rows to aim for in the next batch, with the requests that are first in the lane as it is."""
        rows = self._batch_rows(lane, prediction)
        if not (self._shares.uneven and lane.mixed):
            return rows
        own_rows = lane.rows_in_turn(rows)
        if not own_rows:
            return rows
        # Those within their shares do not run as long as a batch filled up by others would, where that is longer.
        return min(rows, max(own_rows, prediction.rows_within(_HARDLY_LONGER * prediction.reckoned_ns(own_rows))))

    def _tightest(self, lane: Lane[T], most_rows: int) -> int:
        """Place of the earliest deadline among those that would share a batch; the first, but for mixed orders."""
        if not lane.mixed:
            return 0
        count, _ = lane.count_within(most_rows)
        deadlines = [request.deadline_ns for request in lane.items[:count]]
        return deadlines.index(min(deadlines))

    def _give_up(
        self, lane: Lane[T], place: int, laws: LanePredictions, pool: Pool, now_ns: int, refused: list[Refuse[T]]
    ) -> None:
        request = self.queue.remove_at(lane, place)
        self.requests = self.queue.requests
        if self._shares.several:
            self._shares.left(request)
        self._reserve.was_late()
        reason = Reason.EXPIRED if request.deadline_ns < now_ns else Reason.SHED
        if not pool.workers:
            reason = Reason.NO_WORKER
        refused.append(self._refuse(request, reason, laws, laws.fastest.ns(request.rows) / 1e6, pool, now_ns))

    def settle(self, pool: Pool, now_ns: int, refused: list[Refuse[T]]) -> int:
        """Refuse at once what no worker can answer in time any more."""
        queue = self.queue
        foresee = self._has_objective
        free_ns = max(now_ns, pool.busy_until_ns[0]) if foresee and pool.busy_until_ns else now_ns
        latest_ns = 0
        for lane in list(queue.lanes.values()):
            laws = self._laws_of(lane, lane.items[0])
            while lane.items:
                first = lane.items[0]
                run_ns = laws.fastest.reckoned_ns(first.rows) if foresee else 0.0
                latest_ns = int(first.deadline_ns - self._margin_ns - run_ns)
                if latest_ns >= free_ns:
                    break
                self._give_up(lane, 0, laws, pool, now_ns, refused)
        return 0 if pool.busy_until_ns or not queue.requests else latest_ns + 1

    # --- what is learned -----------------------------------------------------------------------------------------

    def observe(self, batch: Start[T], run_ns: int, elapsed_ns: int, now_ns: int) -> None:
        """A batch is done."""
        if self._has_objective:
            reserve = self._reserve
            reserve.answered += len(batch.requests)
            latest_ns = now_ns + self._margin_ns
            for request in batch.requests:
                if request.deadline_ns < latest_ns:
                    reserve.was_late()
        self._predictor.observe(batch.requests[0].lane, batch.variant, batch.rows, run_ns, elapsed_ns, now_ns)

    def tick(self, pool: Pool, now_ns: int) -> None:
        """Look at demand and targets anew."""
        if 0 <= self._ticked_ns < now_ns:
            elapsed_ns = now_ns - self._ticked_ns
            use, rising = self._predictor.refresh(pool.workers, elapsed_ns / 1e9, now_ns)
            self._reserve.relax(elapsed_ns, self._predictor.spare_ns)
            self._plan.judge(use, rising, now_ns)
            self._shares.forget_idle(now_ns)
            if self._shares.several:
                self._shares.weigh(self._predictor.row_ns, now_ns, self._predictor.scarce)
        self._ticked_ns = now_ns

    def _laws_of(self, lane: Lane[T], request: T) -> LanePredictions:
        """The predictions for a request of a lane. Those that run alone are of many kinds in one lane."""
        if lane.memo is not None:
            return cast(LanePredictions, lane.memo)
        laws = self._predictor.lane(request.lane)
        if lane.key is not ALONE:
            lane.memo = laws
        return laws

    def _row_ns(self, laws: LanePredictions) -> float:
        rate = laws.fastest.rows_per_s
        return 0.0 if isinf(rate) or rate <= 0 else 1e9 / rate

    def _refuse(
        self, request: T, reason: Reason, laws: LanePredictions, limit: float, pool: Pool, now_ns: int
    ) -> Refuse[T]:
        rate = laws.fastest.rows_per_s
        known = not isinf(rate) and rate > 0
        backlog_s = self.queue.rows / rate if known else 1.0
        # With twice the load that can be held, half of all are refused wherever they stand: then wait twice as long.
        pressure = max(1.0, laws.demand_rows_per_s / rate) if known else 1.0
        free_s = max(0, pool.busy_until_ns[0] - now_ns) / 1e9 if pool.busy_until_ns and not pool.idle else 0.0
        return Refuse(request, reason, (backlog_s + free_s) * pressure, rate if known else 0.0, limit)
