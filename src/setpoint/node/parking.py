"""Which models of a node are awake within its memory, which are parked, and who is woken next. Pure: no clock, no IO.

A parked model costs a few kilobytes and answers after its wake; an awake one costs what its workers hold. The rules:

- Who is asked and is not awake is woken, first come first served, at most so many at once: waking takes a core.
- Where there is no room, idle models are parked for it, the least recently used first.
- A model that was just woken stays for five times what its wake took (at least a second, at most ten), asked or not.
  So however many models are asked in turn, little of the time goes into waking them again.
- A model with a request in it is never parked.
- A model that is larger than all the memory there is, is not woken.

Whoever owns the processes tells what happens (events) and does what ``decide`` says (actions).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

_S = 1_000_000_000
_LEAST_STAY_NS = _S
_STAY_WAKES = 5
_LONGEST_STAY_NS = 10 * _S
_FIRST_RETRY_NS, _LAST_RETRY_NS = _S, 60 * _S


class Phase(StrEnum):
    """Where a model is between asleep and awake."""

    PARKED = "parked"
    WAITING = "waiting"
    """Asked for, and to be woken when there is room and it is its turn."""
    WAKING = "waking"
    AWAKE = "awake"
    PARKING = "parking"
    """Its workers are ending; its memory counts until they have."""


HOLDING = (Phase.WAKING, Phase.AWAKE, Phase.PARKING)
"""Phases in which a model holds memory."""


class Use(msgspec.Struct, frozen=True, gc=False):
    """How a model is used: whether a request is in it, and when the last one came."""

    busy: bool
    last_ns: int


class Wake(msgspec.Struct, frozen=True, gc=False):
    """Start this model's workers, then say ``woke`` or ``wake_failed``."""

    name: str


class Park(msgspec.Struct, frozen=True, gc=False):
    """End this model's workers, then say ``parked``."""

    name: str


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    """Refuse who waits for this model: it needs more than there is for all models. It is parked again."""

    name: str


Action = Wake | Park | GiveUp


class Berth:
    """One model. Mutable; the lot's.

    Attributes:
        size_bytes: what it holds awake: measured, or estimated before it ever was.
        estimated: that it is estimated: then it may be found to be small enough after all.
        wake_ns: what its wake takes: the last one, or an estimate.
        since_ns: when its phase began.
        wanted: asked for while it was being parked.
        failures: wakes in a row that failed.
        retry_ns: before this time it is not woken again, since the last wake failed.
    """

    __slots__ = ("estimated", "failures", "phase", "retry_ns", "since_ns", "size_bytes", "wake_ns", "wanted")

    def __init__(self, size_bytes: int, wake_ns: int) -> None:
        self.phase = Phase.PARKED
        self.size_bytes = size_bytes
        self.estimated = True
        self.wake_ns = wake_ns
        self.since_ns = 0
        self.wanted = False
        self.failures = 0
        self.retry_ns = 0

    def turn(self, phase: Phase, now_ns: int) -> None:
        """Enter a phase."""
        self.phase, self.since_ns = phase, now_ns


class ParkingLot:
    """The books of one node's models.

    Attributes:
        budget_bytes: what awake models may hold together; may be changed at any time.
        wakes_at_once: may be changed at any time.
    """

    def __init__(self, budget_bytes: int, wakes_at_once: int = 1) -> None:
        self.budget_bytes = budget_bytes
        self.wakes_at_once = wakes_at_once
        self._berths: dict[str, Berth] = {}
        self._waiting: list[str] = []

    # --- what there is -------------------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return name in self._berths

    def berth(self, name: str) -> Berth:
        """The model's books."""
        return self._berths[name]

    def phase(self, name: str) -> Phase:
        """Where the model is."""
        return self._berths[name].phase

    @property
    def held_bytes(self) -> int:
        """What models hold now, those that are being woken or parked included."""
        return sum(berth.size_bytes for berth in self._berths.values() if berth.phase in HOLDING)

    def too_large(self, name: str) -> bool:
        """Whether it is known to need more than there is for all models."""
        berth = self._berths[name]
        return berth.size_bytes > self.budget_bytes and not berth.estimated

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much more can be held without parking anybody, and behind those who wait."""
        waiting_bytes = sum(self._berths[name].size_bytes for name in self._waiting)
        return self.held_bytes + waiting_bytes + size_bytes <= self.budget_bytes

    # --- events --------------------------------------------------------------------------------------------------

    def add(self, name: str, size_bytes: int, wake_ns: int) -> None:
        """A model that is parked."""
        self._berths[name] = Berth(size_bytes, wake_ns)

    def remove(self, name: str) -> None:
        """Forget a model."""
        if self._berths.pop(name, None) is not None and name in self._waiting:
            self._waiting.remove(name)

    def asked(self, name: str, now_ns: int) -> None:
        """Somebody wants an answer from it, or wants it to be awake."""
        berth = self._berths[name]
        if berth.phase is Phase.PARKED and now_ns >= berth.retry_ns:
            berth.turn(Phase.WAITING, now_ns)
            self._waiting.append(name)
        elif berth.phase is Phase.PARKING:
            berth.wanted = True

    def forgone(self, name: str, now_ns: int) -> None:
        """Nobody waits for it any more; a wake that has begun goes on."""
        berth = self._berths[name]
        berth.wanted = False
        if berth.phase is Phase.WAITING:
            self._waiting.remove(name)
            berth.turn(Phase.PARKED, now_ns)

    def woke(self, name: str, size_bytes: int, now_ns: int) -> None:
        """It is awake, and holds so much."""
        berth = self._expect(name, Phase.WAKING)
        berth.wake_ns = now_ns - berth.since_ns
        berth.size_bytes, berth.estimated = size_bytes, False
        berth.failures = berth.retry_ns = 0
        berth.turn(Phase.AWAKE, now_ns)

    def wake_failed(self, name: str, now_ns: int) -> None:
        """It could not be woken, and holds nothing. It is not tried again for a while, longer each time."""
        berth = self._expect(name, Phase.WAKING)
        delay_ns = min(_FIRST_RETRY_NS << min(berth.failures, 10), _LAST_RETRY_NS)
        berth.failures += 1
        berth.retry_ns = now_ns + delay_ns
        berth.turn(Phase.PARKED, now_ns)

    def forgive(self, name: str) -> None:
        """Try to wake it again as soon as it is asked, whatever failed before."""
        self._berths[name].failures = self._berths[name].retry_ns = 0

    def parked(self, name: str, now_ns: int) -> None:
        """Its workers have ended."""
        berth = self._expect(name, Phase.PARKING)
        wanted, berth.wanted = berth.wanted, False
        berth.turn(Phase.PARKED, now_ns)
        if wanted:
            self.asked(name, now_ns)

    def measured(self, name: str, size_bytes: int) -> None:
        """It was found to hold so much; that counts when it is to be woken again, too."""
        berth = self._berths[name]
        if berth.phase is Phase.AWAKE:
            berth.size_bytes = size_bytes

    # --- decisions -----------------------------------------------------------------------------------------------

    def decide(self, now_ns: int, use: Callable[[str], Use]) -> list[Action]:
        """What to do now; each action counts as begun.

        Args:
            now_ns: the time.
            use: how an awake model is used.
        """
        actions: list[Action] = []
        over_bytes = self.held_bytes - self._leaving_bytes() - self.budget_bytes
        for victim in self._victims(over_bytes, now_ns, use, stay=False):
            actions.append(self._park(victim, now_ns))  # models were measured to hold more than was thought
        while self._waiting and self._count(Phase.WAKING) < self.wakes_at_once:
            name = self._waiting[0]
            berth = self._berths[name]
            if berth.estimated:
                berth.size_bytes = min(berth.size_bytes, self.budget_bytes)
            missing_bytes = self.held_bytes + berth.size_bytes - self.budget_bytes
            if self.too_large(name):
                self.forgone(name, now_ns)
                actions.append(GiveUp(name))
            elif missing_bytes <= 0:
                del self._waiting[0]
                berth.turn(Phase.WAKING, now_ns)
                actions.append(Wake(name))
            else:
                for victim in self._victims(missing_bytes - self._leaving_bytes(), now_ns, use, stay=True):
                    actions.append(self._park(victim, now_ns))
                break  # the next in turn is not let past: small ones would take the room again and again
        return actions

    def predicted_wait_ns(self, name: str, now_ns: int) -> int:
        """How long a request for it would wait from now on, as far as can be told; 0 where it is awake.

        Models with requests in them are taken to become idle soon.
        """
        berth = self._berths[name]
        if berth.phase is Phase.AWAKE:
            return 0
        if berth.phase is Phase.WAKING:
            return max(0, berth.since_ns + berth.wake_ns - now_ns)
        if berth.phase is Phase.PARKED and now_ns < berth.retry_ns:
            return berth.retry_ns - now_ns + berth.wake_ns
        ahead = self._waiting[: self._waiting.index(name)] if name in self._waiting else self._waiting
        waking_ns = [max(0, b.since_ns + b.wake_ns - now_ns) for b in self._berths.values() if b.phase is Phase.WAKING]
        before_ns = sum(waking_ns) + sum(self._berths[other].wake_ns for other in ahead)
        needed_bytes = berth.size_bytes + sum(self._berths[other].size_bytes for other in ahead)
        room_ns = self._room_ns(needed_bytes, now_ns)
        return max(before_ns // self.wakes_at_once, room_ns) + berth.wake_ns

    def _room_ns(self, needed_bytes: int, now_ns: int) -> int:
        """When enough models may be parked for so many bytes."""
        missing_bytes = self.held_bytes - self._leaving_bytes() + needed_bytes - self.budget_bytes
        awake = [berth for berth in self._berths.values() if berth.phase is Phase.AWAKE]
        for berth in sorted(awake, key=_leave_ns):
            if missing_bytes <= 0:
                return 0
            missing_bytes -= berth.size_bytes
            if missing_bytes <= 0:
                return max(0, _leave_ns(berth) - now_ns)
        return 0

    def _victims(self, missing_bytes: int, now_ns: int, use: Callable[[str], Use], *, stay: bool) -> list[str]:
        """Whom to park for so many bytes; nobody where all that may be parked are not enough.

        Args:
            missing_bytes: to be freed.
            now_ns: the time.
            use: how an awake model is used.
            stay: whether those just woken are spared. Where too much is held already, whoever is idle goes, and as far
                as it helps.
        """
        if missing_bytes <= 0:
            return []
        idle: list[tuple[int, str]] = []
        for name, berth in self._berths.items():
            if berth.phase is not Phase.AWAKE or (stay and _leave_ns(berth) > now_ns):
                continue
            found = use(name)
            if not found.busy:
                idle.append((max(found.last_ns, berth.since_ns), name))
        chosen: list[str] = []
        for _, name in sorted(idle):
            chosen.append(name)
            missing_bytes -= self._berths[name].size_bytes
            if missing_bytes <= 0:
                break
        if missing_bytes > 0:
            return [] if stay else chosen
        # Small ones that went before a large one may stay if the large one is enough: the most recent first.
        for name in reversed(chosen[:-1]):
            if missing_bytes + self._berths[name].size_bytes <= 0:
                missing_bytes += self._berths[name].size_bytes
                chosen.remove(name)
        return chosen

    def _park(self, name: str, now_ns: int) -> Park:
        self._berths[name].turn(Phase.PARKING, now_ns)
        return Park(name)

    def _leaving_bytes(self) -> int:
        return sum(berth.size_bytes for berth in self._berths.values() if berth.phase is Phase.PARKING)

    def _count(self, phase: Phase) -> int:
        return sum(berth.phase is phase for berth in self._berths.values())

    def _expect(self, name: str, phase: Phase) -> Berth:
        berth = self._berths[name]
        if berth.phase is not phase:
            raise RuntimeError(f"model {name!r} is {berth.phase}, not {phase}")
        return berth


def _leave_ns(berth: Berth) -> int:
    """From when on a model may be parked."""
    return berth.since_ns + min(max(_LEAST_STAY_NS, _STAY_WAKES * berth.wake_ns), _LONGEST_STAY_NS)
