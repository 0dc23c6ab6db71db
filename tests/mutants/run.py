"""The tests are tested: each one-line fault of ``pack.toml`` is put into a copy of the tree, and a test has to fail.

First come the tests that belong to the file with the fault, by its mirrored path; if they all pass, all others.  The
copy takes the compiled kernels along, so that only faults in the kernels themselves cost a compilation.

    python tests/mutants/run.py                        all faults, two at a time
    python tests/mutants/run.py --only storage         those in files whose path contains "storage"
    python tests/mutants/run.py --mirrored             with the tests that belong to the file alone
    python tests/mutants/run.py --sound                without running them once without a fault: they have just passed
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACK = Path(__file__).with_name("pack.toml")
BAR = 0.95  # share of the faults that have to be noticed
SECONDS = 900  # for one run of tests; a fault that makes them hang is noticed
FAILED, PASSED = 1, 0  # exit codes of pytest


class Mutant(NamedTuple):
    """One line of one file, replaced."""

    file: str
    why: str
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.file}: {self.why}"


def load(path: Path = PACK) -> list[Mutant]:
    """Return the pack; a line that is no longer there, or not alone, is an error."""
    mutants = [Mutant(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]]
    for mutant in mutants:
        count = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        if count != 1:
            raise SystemExit(f"{path.name}: in {mutant.file} the old line occurs {count} times: {mutant.old}")
        if mutant.old == mutant.new or "\n" in mutant.old + mutant.new:
            raise SystemExit(f"{path.name}: {mutant.name} is not another line")
    return mutants


def mirrored(file: str) -> list[str]:
    """Return the tests that belong to a file: the nearest folder or file of tests of the same path."""
    if file.startswith("kernels/"):
        return ["tests/kernels", "tests/operators", "tests/exact"]
    inside = Path(file).relative_to("krylovh").with_suffix("")
    if inside.parent == Path():
        found = [f"tests/test_{inside.name}.py"]
    else:
        found = [str(Path("tests") / folder) for folder in [inside, *inside.parents] if folder != Path()]
    if inside.parts[0] == "cli":
        found.append("tests/test_command_line.py")
    present = [path for path in found if (ROOT / path).exists()]
    return present[:1]


class Tree:
    """A copy of the project, in which faults are put in and tests run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unwanted = shutil.ignore_patterns(".git", ".venv*", "build", "dist", ".*_cache", "*.egg-info")
        shutil.copytree(ROOT, folder, ignore=unwanted)
        (folder / "krylovh" / "kernels").symlink_to("../kernels")
        self._clock = int(time.time())

    def pytest(self, paths: list[str], *options: str) -> int:
        """Run tests until the first that fails; return the exit code, or that of a failure for a hang or a crash."""
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not full and not faults",
            "--ignore=tests/mutants",
            *options, *paths,
        ]  # fmt: skip
        environment = os.environ | {
            "PYTHONPATH": str(self.folder), "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
        }  # fmt: skip
        try:
            ended = subprocess.run(
                command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return FAILED
        if ended.returncode in (4, 5):
            raise SystemExit(f"these tests cannot be run: {paths}\n{ended.stdout[-2000:]}")
        self.said = ended.stdout
        return PASSED if ended.returncode == 0 else FAILED

    def require_sound(self, mutants: list[Mutant]) -> None:
        """Run the tests of the files without any fault: they have to pass, or what they say means nothing."""
        paths = sorted({path for mutant in mutants for path in mirrored(mutant.file)})
        if self.pytest(paths) != PASSED:
            raise SystemExit(f"without a fault, tests fail:\n{self.said[-3000:]}")

    def is_killed(self, mutant: Mutant, mirrored_only: bool) -> bool:
        """Return whether a test fails with the fault in place."""
        first = mirrored(mutant.file)
        path = self.folder / mutant.file
        sound, times = path.read_text(encoding="utf-8"), path.stat()
        self._clock += 2  # a compiled file is known by the seconds of its source
        try:
            path.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
            os.utime(path, (self._clock, self._clock))
            if first and self.pytest(first) == FAILED:
                return True
            rest = ["--doctest-modules", *(f"--ignore={path}" for path in ["krylovh/kernels", *first])]
            return not mirrored_only and self.pytest(["krylovh", "tests"], *rest) == FAILED
        finally:
            path.write_text(sound, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def main() -> int:
    """Run the pack; return 0 if enough of the faults were noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of the path of the files with faults")
    parser.add_argument("--mirrored", action="store_true", help="run no other tests than those of the file")
    parser.add_argument("--sound", action="store_true", help="the tests pass without a fault: do not run them so first")
    parser.add_argument("--jobs", type=int, default=2, help="trees side by side")
    parser.add_argument("--every", type=int, default=1, help="take every n-th fault")
    options = parser.parse_args()
    mutants = [mutant for mutant in load() if options.only in mutant.file][:: options.every]
    survivors: list[Mutant] = []
    lock = threading.Lock()
    with tempfile.TemporaryDirectory(prefix="krylovh-mutants-") as folder:
        trees: queue.Queue[Tree] = queue.Queue()
        for number in range(options.jobs):
            trees.put(Tree(Path(folder, f"tree{number}")))
        if not options.sound:
            trees.queue[0].require_sound(mutants)

        def run(mutant: Mutant) -> None:
            tree = trees.get()
            try:
                begin = time.monotonic()
                killed = tree.is_killed(mutant, options.mirrored)
            finally:
                trees.put(tree)
            with lock:
                verdict = "killed  " if killed else "SURVIVED"
                sys.stdout.write(f"{verdict} {time.monotonic() - begin:5.0f} s  {mutant.name}\n")
                sys.stdout.flush()
                if not killed:
                    survivors.append(mutant)

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(run, mutants))
    killed = len(mutants) - len(survivors)
    share = killed / len(mutants)
    sys.stdout.write(f"{killed} of {len(mutants)} faults killed, {share:.1%}; needed are {BAR:.0%}\n")
    for mutant in survivors:
        sys.stdout.write(f"survived: {mutant.name}\n    {mutant.old}\n    {mutant.new}\n")
    return 0 if share >= BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
