"""A table of results: shown on the terminal, written as columns of an HDF5 group, and put between marks of a page."""

from dataclasses import dataclass, field
from datetime import date
from math import isnan
from pathlib import Path

import h5py
import numpy as np
import rich.table

from krylovh.storage.provenance import environment

WIDTH = 200  # characters of the terminal or file that tables are shown on: none is cut off


@dataclass
class ResultTable:
    """Rows of values under named columns; ``columns`` maps a title to the format of its values."""

    name: str
    columns: dict[str, str]
    facts: list[str] = field(default_factory=list)
    rows: list[tuple] = field(default_factory=list)

    def cells(self):
        """Return the rows as text; what was not measured is a dash."""
        return [
            ["-" if isinstance(value, float) and isnan(value) else format(value, spec) for value, spec in pairs]
            for pairs in (zip(row, self.columns.values(), strict=True) for row in self.rows)
        ]

    def show(self, console):
        """Print the table."""
        shown = rich.table.Table(*self.columns, title=self.name)
        for row in self.cells():
            shown.add_row(*row)
        console.print(shown)

    def write(self, path):
        """Write one dataset per column into a group named after the table, with what it was measured on."""
        with h5py.File(path, "a") as file:
            if self.name in file:
                del file[self.name]
            group = file.create_group(self.name)
            group.attrs.update(environment())
            group.attrs["facts"] = self.facts
            group.attrs["date"] = str(date.today())
            for title, column in zip(self.columns, zip(*self.rows, strict=True), strict=True):
                text = isinstance(column[0], str)
                group.create_dataset(
                    title.replace("/", " per "), data=np.array(column, h5py.string_dtype() if text else None)
                )

    def replace_in(self, page):
        """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``."""
        facts = environment()
        versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "numpy", "scipy", "numba"))
        right = [spec[:1] != "<" for spec in self.columns.values()]
        lines = [
            f"{facts['cpu']}; {versions}; {date.today()}.",
            *(f"{fact}." for fact in self.facts),
            "",
            "| " + " | ".join(self.columns) + " |",
            "|" + "|".join("---:" if number else "---" for number in right) + "|",
            *("| " + " | ".join(row) + " |" for row in self.cells()),
        ]
        begin, end = f"<!-- {self.name} -->\n", f"<!-- /{self.name} -->"
        head, rest = Path(page).read_text().split(begin)
        Path(page).write_text(head + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1])
