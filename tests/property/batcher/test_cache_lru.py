"""The store in memory, driven through whatever may happen: its bound and its ends hold after every step."""

from collections import OrderedDict

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.batcher.domain.lru import ByteLru

BYTES_MAX = 100
keys = st.integers(0, 8)


class LruMachine(RuleBasedStateMachine):
    """Beside a model that does the same by looking at everything each time."""

    def __init__(self) -> None:
        super().__init__()
        self.lru: ByteLru[int, object] = ByteLru(bytes_max=BYTES_MAX)
        self.model: OrderedDict[int, tuple[object, int, float]] = OrderedDict()
        self.now_s = 0.0
        self.evicted = 0

    @rule(key=keys, size=st.integers(0, BYTES_MAX + 5), lives_s=st.floats(0, 20))
    def put(self, key: int, size: int, lives_s: float) -> None:
        value = object()
        self.lru.put(key, value, size_bytes=size, expires_s=self.now_s + lives_s)
        self.model.pop(key, None)
        if size > BYTES_MAX:
            return
        self.model[key] = (value, size, self.now_s + lives_s)
        while sum(entry[1] for entry in self.model.values()) > BYTES_MAX:
            self.model.popitem(last=False)
            self.evicted += 1

    @rule(key=keys)
    def get(self, key: int) -> None:
        found = self.lru.get(key, self.now_s)
        entry = self.model.get(key)
        if entry is None or self.now_s >= entry[2]:
            assert found is None
            self.model.pop(key, None)
            return
        assert found is entry[0]
        self.model.move_to_end(key)

    @rule(seconds=st.floats(0, 10))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def counts_what_it_holds(self) -> None:
        assert self.lru.bytes_held == sum(entry[1] for entry in self.model.values()) <= BYTES_MAX
        assert len(self.lru) == len(self.model)
        assert self.lru.evicted == self.evicted


TestLru = LruMachine.TestCase
