"""Fields of result classes in the reference, from the comments that stand beside them.

A result is a frozen dataclass whose fields carry their shape and meaning in a trailing comment; here that becomes an
"Attributes" section of its docstring.
"""

import dataclasses
import inspect
import re
from typing import Any

FIELD = re.compile(r"^    (?P<name>[a-zA-Z]\w*): (?P<type>[^=#]+?)(?: = [^#]+?)?\s*(?:# (?P<comment>.*))?$")


def fields_of(cls: type) -> list[tuple[str, str, str]]:
    """Return name, type and comment of the fields that are written in the classes' source, base classes first."""
    names = {field.name for field in dataclasses.fields(cls)}
    found: dict[str, tuple[str, str, str]] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            for line in inspect.getsource(base).splitlines():
                match = FIELD.match(line)
                if match and match["name"] in names:
                    found[match["name"]] = match["name"], match["type"], match["comment"] or ""
    return list(found.values())


def add_fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Append the section, unless the docstring has one."""
    if what != "class" or not dataclasses.is_dataclass(obj) or any(line.strip() == "Attributes" for line in lines):
        return
    section = ["Attributes", "----------"]
    for field, kind, comment in fields_of(obj):
        section += [f"{field} : ``{kind}``", *([f"    {comment.replace('|', chr(92) + '|')}"] if comment else [])]
    headings = ("References", "Examples", "Notes", "See Also")
    at = next((i for i, line in enumerate(lines) if line.strip() in headings), len(lines))
    lines[at:at] = ["", *section, ""]


def setup(app: Any) -> dict[str, bool]:
    """Connect before numpydoc reads the docstring."""
    app.connect("autodoc-process-docstring", add_fields, priority=100)
    return {"parallel_read_safe": True}
