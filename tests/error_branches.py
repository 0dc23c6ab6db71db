"""The share of error branches that tests have gone through, from the report that ``coverage json`` writes.

An error branch is a ``raise``, a call of a reader's ``stop``, which is how its process ends with a reason, or the body
of an ``except``.

    python tests/error_branches.py build/coverage.json --at-least 95
"""

import argparse
import ast
import json
import sys
from pathlib import Path


def error_branches(source: str) -> list[int]:
    """Return the first line of each error branch."""
    lines = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise):
            lines.add(node.lineno)
        elif isinstance(node, ast.ExceptHandler):
            lines.add(node.body[0].lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "stop":
            lines.add(node.lineno)
    return sorted(lines)


def main() -> int:
    """Print the branches that were missed; return 0 if the others are enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report")
    parser.add_argument("--at-least", type=float, default=95.0, help="per cent")
    options = parser.parse_args()
    met = total = 0
    for name, file in sorted(json.loads(Path(options.report).read_text(encoding="utf-8"))["files"].items()):
        source = Path(name).read_text(encoding="utf-8")
        executed = set(file["executed_lines"])
        for line in error_branches(source):
            total += 1
            if line in executed:
                met += 1
            else:
                sys.stdout.write(f"not met: {name}:{line}: {source.splitlines()[line - 1].strip()}\n")
    share = 100 * met / total
    sys.stdout.write(f"{met} of {total} error branches met, {share:.1f} %; needed are {options.at_least:g} %\n")
    return 0 if share >= options.at_least else 1


if __name__ == "__main__":
    raise SystemExit(main())
