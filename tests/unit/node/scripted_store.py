"""A shared store that answers when and how a test says."""

from collections.abc import Callable

from scripted import Scene

Then = Callable[[bytes | None], None]


class ScriptedStore:
    """Stands where a ``RedisStore`` stands."""

    largest_bytes = 1 << 20

    def __init__(self) -> None:
        self.parcels: dict[bytes, bytes] = {}
        self.asked: list[tuple[bytes, Then]] = []
        self.away = False

    def begin(self) -> None:
        pass

    def look(self, key: bytes, then: Then) -> bool:
        if self.away:
            return False
        self.asked.append((key, then))
        return True

    def keep(self, key: bytes, parcel: bytes) -> None:
        self.parcels[key] = parcel

    def sweep(self, now_ns: int) -> None:
        pass

    async def close(self) -> None:
        self.fail()

    def answer(self) -> None:
        """Answer the oldest question."""
        if self.asked:
            key, then = self.asked.pop(0)
            then(self.parcels.get(key))

    def fail(self) -> None:
        """Every question is in vain."""
        while self.asked:
            self.asked.pop(0)[1](None)


def with_store(scene: Scene) -> ScriptedStore:
    """Give the scene's cache a scripted store."""
    store = ScriptedStore()
    cache = scene.service._cache
    assert cache is not None
    cache._store = store
    return store
