"""The headline results of the front page, out of the tables of experiments/README.md.

    python experiments/headlines.py           renews them
    python experiments/headlines.py --check   ends with 1 if they are not what the tables say

No number is written by hand: each line names a table, what to look for in it, and the command that makes the table.
"""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, TABLES = ROOT / "README.md", ROOT / "experiments" / "README.md"
BEGIN, END = "<!-- headlines -->\n", "<!-- /headlines -->"


class Tables:
    """The tables of a page by name, each a list of rows: dicts of text by the title of a column."""

    def __init__(self, text):
        self.text = text

    def __call__(self, name, **wanted):
        """Return the rows whose cells begin with what is wanted; underscores in the titles stand for spaces."""
        part = self.text.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]
        lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
        if not lines:
            raise LookupError(f"the table {name!r} is empty")
        titles = [title.strip() for title in lines[0]]
        rows = [dict(zip(titles, (cell.strip() for cell in line), strict=True)) for line in lines[2:]]
        wanted = {title.replace("_", " "): text for title, text in wanted.items()}
        found = [row for row in rows if all(row[title].startswith(text) for title, text in wanted.items())]
        if not found:
            raise LookupError(f"the table {name!r} has no row with {wanted}")
        return found


def span(rows, title):
    """Return the smallest and the largest number of a column as text."""
    numbers = sorted((row[title] for row in rows), key=float)
    return f"{numbers[0]} to {numbers[-1]}"


def headlines(tables):
    """Yield what came out, and the command."""
    single, blocks = ([row for row in tables("peers") if row["block"] == size] for size in ("1", "16"))
    yield (
        f"Single products: {span(single, 'ratio')} times as fast as the fastest of torch, torch.func, JAX, curvlinops "
        f"and PyHessian on four nets; blocks of 16: {span(blocks, 'ratio')} times",
        "make bench",
    )
    full = tables("full_hessians")
    yield f"Whole Hessians by structure: {span(full, 'ratio')} times as fast as the fastest peer", "make bench"
    density = tables("densities", net="64-32-32-10")
    yield (
        f"Spectral densities of a small net: {span(density, 'matfree ratio')} times as fast as matfree, "
        f"{span(density, 'curvlinops ratio')} times as fast as curvlinops",
        "make bench",
    )
    pairs = [row for row in tables("eigenpairs", tool="krylovh") if row["bar"] != "-"]
    yield f"Ten largest eigenpairs: {span(pairs, 'ratio')} times as fast as curvlinops with SciPy's eigsh", "make bench"
    truth = tables("truth")
    ours = [row for row in truth if row["solver"].startswith("krylovh")]
    peers = [row for row in truth if not row["solver"].startswith("krylovh")]
    total = {who: sum(int(row["wrong"]) for row in rows) for who, rows in (("ours", ours), ("peers", peers))}
    cases = {who: sum(int(row["says success"]) for row in rows) for who, rows in (("ours", ours), ("peers", peers))}
    yield (
        f"Wrong answers reported as a success: {total['ours']} of {cases['ours']} by krylovh, {total['peers']} of "
        f"{cases['peers']} by SciPy, curvlinops, PyHessian, matfree and JAX on the same operators",
        "python experiments/truth.py",
    )
    marks = tables("training autoencoder")
    last = list(marks[0])[-2]
    best = {name: min(float(r[last]) for r in marks if r["solver"].startswith(name)) for name in ("lbfgs", "adam")}
    newton = min(float(row[last]) for row in marks if row["met"] != "-")
    yield (
        f"Training error of an autoencoder after {last}: {newton:.3f}, against {best['lbfgs']:.3f} of lbfgs and "
        f"{best['adam']:.3f} of the best adam",
        "python experiments/training.py",
    )
    steps = tables("training mnist", solver="newton")[0]
    yield (
        f"A gradient norm of 1e-6 on 784-256-128-10 in {steps['seconds']} s; lbfgs was given {steps['ratio']} times as "
        f"long and came to {tables('training mnist', solver='lbfgs')[0]['gradient norm']}",
        "python experiments/training.py --limit 1500",
    )
    left = [tables("pruning", problem=f"MONK {i}", method="obs", retraining="no")[0] for i in (1, 2, 3)]
    paper = ", ".join(row["paper"].split(":")[0] for row in left)
    yield (
        f"Parameters that the optimal brain surgeon leaves on the MONK's problems without retraining: "
        f"{', '.join(row['best left'] for row in left)} (the paper: {paper})",
        "python experiments/pruning.py",
    )
    influence = tables("influence")
    yield (
        f"Influence against true leave-one-out: correlations {span(influence, 'Pearson')}",
        "python experiments/influence.py",
    )
    shares = tables("retraining")
    yield (
        f"Retraining after 1 to 10 % of the samples are gone: {span(shares, 'share')} of the products of a new one",
        "python experiments/influence.py",
    )
    differences = tables("laplace-torch")
    largest = max((row["difference"] for row in differences), key=float)
    yield (
        f"Laplace evidence: within {largest} of laplace-torch's in four structures",
        ".venv-peers/bin/python experiments/laplace_evidence.py",
    )


def block(text):
    """Return the headlines as a table."""
    lines = ["| what came out | command |", "|---|---|"]
    lines += [f"| {what} | `{command}` |" for what, command in headlines(Tables(text))]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, compare")
    check = parser.parse_args().check
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    renewed = head + BEGIN + block(TABLES.read_text()) + END + rest.split(END)[1]
    if check:
        return int(renewed != page)
    PAGE.write_text(renewed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
