"""Run files: what they do, and the line of what is wrong with them."""

import os
from pathlib import Path

import pytest

from krylovh import ResultStore

GOOD = """\
# both commands use these
data = "data.npz"
loss = "squared_error"
l2 = 0.05

[train]
widths = [
    2,  # inputs
    3,
    1,
]
save_net = "made.npz"
output = "train.h5"

[[trace]]
net = "made.npz"
output = "one.h5"
num_products = 3

[[trace]]
net = "made.npz"
output = "two.h5"
num_products = 4
method = "hutch++"
"""


def test_commands_are_done_in_their_order(krylovh):
    os.makedirs("sub")
    for name in ("data.npz",):
        os.replace(name, f"sub/{name}")
    Path("sub/run.toml").write_text(GOOD)
    code, _, err = krylovh("run", "sub/run.toml")
    assert (code, err) == (0, "")
    assert ResultStore("sub/two.h5", "r").load("trace").num_products == 4
    code, _, err = krylovh("run", "sub/run.toml")
    assert code == 5
    assert "sub/train.h5: exists already; --force replaces it" in err
    assert krylovh("run", "sub/run.toml", "--force")[0] == 0


BAD = {
    "syntax": ("[trace]\nnet = \n", "run.toml:2: Invalid value"),
    "open text": ('loss = "squ', "run.toml:1: "),
    "open list": ("[trace]\nnum_products = [1,\n", "run.toml:3: "),
    "twice": ("[trace]\nnet = 'a'\nnet = 'b'\n", "run.toml:3: Cannot overwrite a value"),
    "table twice": ("[trace]\nnet = 'a'\n[trace]\n", "run.toml:3: Cannot declare"),
    "unknown key": (
        GOOD + "\nnum_product = 3\n",
        "run.toml:26: unknown key of [trace] 'num_product'; is num_products meant?",
    ),
    "unknown common key": ("\nlos = 'huber'\n[trace]\n", "run.toml:2: unknown key 'los'; is loss meant?"),
    "unknown command": ("[tracee]\n", "run.toml:1: unknown command 'tracee'; is trace meant?"),
    "no command": ("loss = 'huber'\n", "run.toml:1: needed is a table"),
    "NaN": (
        "[trace]\nnet='net.npz'\ndata='data.npz'\nloss='huber'\nrtol = nan\n",
        "run.toml:5: rtol must be finite, got nan",
    ),
    "infinite": ("l2 = -inf\n[trace]\n", "run.toml:1: l2 must be finite, got -inf"),
    "wrong type": ("[trace]\nnet='a'\ndata='b'\nloss='huber'\nnum_products = 'many'\n", "run.toml:5: [trace]: "),
    "negative": ("[trace]\nnet='a'\ndata='b'\nloss='huber'\nrtol = -1.0\n", "run.toml:5: [trace]: "),
    "missing": ("\n[trace]\nnet='a'\nloss='huber'\n", "run.toml:2: [trace]: "),
    "true": ("[trace]\nnum_products = true\n", "run.toml:2: num_products must not be true or false"),
    "not true": ("[spectrum]\nexact = 1\n", "run.toml:2: exact must be true or false, got 1"),
    "date": ("[trace]\nnum_products = 1979-05-27\n", "run.toml:2: num_products must be a number"),
    "table in table": ("[trace.deep]\nx = 1\n", "run.toml:1: unknown key of [trace] 'deep'"),
    "inline table": ("[trace]\nnum_products = {a = 1}\n", "run.toml:2: num_products must be a number"),
    "nested": ("x = " + "[" * 20_000 + "]" * 20_000, "run.toml: is nested too deeply"),
    "large": ("#" * 70_000, "run.toml: must have at most 65536 bytes"),
    "json": ("[trace]\njson = true\n", "run.toml:2: unknown key of [trace] 'json'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_with_its_line(krylovh, case):
    text, message = BAD[case]
    Path("run.toml").write_text(text)
    code, out, err = krylovh("run", "run.toml")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert not Path("train.h5").exists()


def test_bytes_that_are_no_text_are_refused_with_their_line(krylovh):
    Path("run.toml").write_bytes(b"loss = 'huber'\n# \xff\n")
    assert krylovh("run", "run.toml") == (2, "", "krylovh: run.toml:2: is not UTF-8 text\n")


def test_a_missing_file_is_bad_input(krylovh):
    assert krylovh("run", "none.toml") == (4, "", "krylovh: none.toml: No such file or directory\n")
