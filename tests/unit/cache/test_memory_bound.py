"""The memory tier's bound is the memory that the process really takes.

With CACHE_INSERTS=1000000 in the environment the check is made in full (20 s for each mix of sizes).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

INSERTS = int(os.environ.get("CACHE_INSERTS", "60000"))
MIB = 1024 * 1024
BOUND = 24  # MiB

FILL = """
import gc, random, sys, time
from gateway.cache import Entry, MemoryTierSettings, make_space
from gateway.cache.memory import MemoryTier

inserts, bound, least, most = map(int, sys.argv[1:])

class Silent:
    def looked_up(self, tier, hits, misses): pass
    def evicted(self, tier, entries, reason): pass

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

space = make_space(scope="", label="lab/small", revision="", fields={})
dice = random.Random(6)
tier = MemoryTier(MemoryTierSettings(max_mb=bound), Silent(), time.time, dice.random)
before = resident()
for number in range(inserts):
    key, numbers = dice.randbytes(32), dice.randint(least, most)
    # Objects of its own for everything, as entries that were read from elsewhere have.
    tier.put_many([Entry(key, bytes(bytearray(space.id)), bytes(4 * numbers), 300 + number, 0, 10**9 + number)], space)
print(tier.size, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("least", "most"), [(1, 3072), (1536, 1536), (256, 256)], ids=["mixed", "usual", "small"])
def test_the_process_grows_by_the_bound_to_within_a_tenth(least: int, most: int) -> None:
    arguments = [str(number) for number in (INSERTS, BOUND, least, most)]

    done = subprocess.run(
        [sys.executable, "-c", FILL, *arguments], capture_output=True, text=True, check=True, timeout=300
    )

    size, grown = map(int, done.stdout.split())
    assert size <= BOUND * MIB
    assert size >= 0.97 * BOUND * MIB, "not filled: more inserts are needed"
    assert 0.9 * BOUND * MIB <= grown <= 1.1 * BOUND * MIB
