"""360 kills at random instants of saves and of checkpointed runs: nothing acknowledged is lost, no file unreadable."""

import os
import random
import signal
import time

import pytest

from faults.failing_disk import replaced
from faults.saves import SCENARIOS

pytestmark = [
    pytest.mark.faults,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # the children use no threads
]

KILLS = 60  # of each of the six scenarios
ROUNDS = 3  # each begins with an empty folder


def child_of(scenario, folder, first, die_at=None):
    """Fork a child that runs the scenario; return its process id and the pipe of what it acknowledges."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, os.fdopen(reading)
    try:
        count = 0

        def do(name, real, arguments, keywords):
            nonlocal count
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        pipe = os.fdopen(writing, "w", buffering=1)  # its lines do not go through os.write
        with replaced(do):
            scenario.run(folder, first, lambda i: print(i, file=pipe))
    finally:
        os._exit(1)


@pytest.mark.parametrize("kind", list(SCENARIOS))
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_no_kill_loses_what_was_acknowledged(tmp_path, kind, round_):
    scenario = SCENARIOS[kind]
    seed = 1000 * round_ + list(SCENARIOS).index(kind)
    rng = random.Random(seed)
    acknowledged, attempted, first = set(), set(), 0
    for trial in range(KILLS // ROUNDS):
        where = f"seed {seed}, trial {trial}"
        # A save makes about 25 system calls and takes some milliseconds
        die_at = rng.choice([None, None, rng.randint(1, 80)]) if trial else None
        child, pipe = child_of(scenario, tmp_path, first, die_at)
        reported = []
        if die_at is None:
            # after some saves, and then in the middle of one, however fast the machine is
            wanted, begin = rng.randint(0 if trial else 1, 3), time.monotonic()
            reported = [int(pipe.readline()) for _ in range(wanted)]
            pace = (time.monotonic() - begin) / wanted if wanted else 0.03
            time.sleep(rng.uniform(0.0, 2 * pace))
            os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, where
        with pipe:
            reported += [int(line) for line in pipe if line.endswith("\n")]
        acknowledged |= set(reported)
        attempted.add(first + len(reported))
        first += len(reported) + 1
        if acknowledged:
            try:
                scenario.check(tmp_path, acknowledged, attempted, rng)
            except Exception as error:
                raise AssertionError(f"{where}: {error}") from error
    assert acknowledged, f"seed {seed}: every child was killed before its first save"
    scenario.finish(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(scenario.leaves)
