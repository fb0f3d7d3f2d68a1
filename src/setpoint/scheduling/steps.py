"""Which steps of a composition may begin, given which are done. Pure: one object for each request on its way."""

from __future__ import annotations

from collections.abc import Sequence


class StepGraph:
    """Which step needs which. Steps are counted in an order in which each comes after those that it needs."""

    __slots__ = ("followers", "needs")

    def __init__(self, needs: Sequence[Sequence[int]]) -> None:
        """The steps that each step needs.

        Raises:
            ValueError: one needs itself, a later one, or one that is not there.
        """
        self.needs = tuple(tuple(sorted(set(earlier))) for earlier in needs)
        followers: list[list[int]] = [[] for _ in needs]
        for step, earlier in enumerate(self.needs):
            for one in earlier:
                if not 0 <= one < step:
                    raise ValueError(f"step {step} needs step {one}, which does not come before it")
                followers[one].append(step)
        self.followers = tuple(map(tuple, followers))


class StepRun:
    """One request's way: each step begins once, when all that it needs are done, and none after the end."""

    __slots__ = ("_graph", "_left", "_missing", "over")

    def __init__(self, graph: StepGraph) -> None:
        self._graph = graph
        self._missing = [len(earlier) for earlier in graph.needs]
        self._left = len(graph.needs)
        self.over = False

    def begin(self) -> list[int]:
        """The steps that need no other."""
        return [step for step, missing in enumerate(self._missing) if missing == 0]

    def done(self, step: int) -> list[int]:
        """A step has what it gives; returns those that may begin now. Nothing follows after the end."""
        if self.over:
            return []
        self._left -= 1
        self.over = not self._left
        ready = []
        for follower in self._graph.followers[step]:
            self._missing[follower] -= 1
            if not self._missing[follower]:
                ready.append(follower)
        return ready

    def end(self) -> bool:
        """Nothing more shall begin; False where it was over already."""
        over, self.over = self.over, True
        return not over
