"""Checkpoints of the command line: what is written beside them, and how a run goes on."""

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest

import krylovh as kh
from krylovh import ResultStore


def test_the_command_is_written_beside_the_checkpoint(krylovh, monkeypatch):
    seen = []

    def eigsh(*_, checkpoint, **options):
        seen.append((checkpoint, options["rng"]))
        raise KeyboardInterrupt

    monkeypatch.setattr("krylovh.krylov.eigsh", eigsh)
    os.mkdir("deep")
    words = ("eigs", "net.npz", "data.npz", "-k", 2, "--no-verify", "--tol", "1e-7", "--checkpoint", "deep/a.ckpt")
    code, _, err = krylovh(*words, "-o", "deep/run.h5")
    assert code == 130
    started, ended = err.splitlines()
    assert started == "krylovh: if this run is stopped, krylovh resume deep/a.ckpt goes on with it"
    assert ended == "krylovh: interrupted; what was found is stored; krylovh resume deep/a.ckpt goes on"
    assert tomllib.loads(Path("deep/a.ckpt.toml").read_text()) == {
        "eigs": {
            "net": "../net.npz", "data": "../data.npz", "loss": "squared_error", "l2": 0.05, "output": "run.h5",
            "rng": 0, "k": 2, "tol": 1e-7, "verify": False, "checkpoint": "a.ckpt",
        }
    }  # fmt: skip
    Path("deep/a.ckpt").write_bytes(b"")
    krylovh("resume", "deep/a.ckpt", "--set", "rng=7", squared_error=False)
    assert [(os.path.normpath(path), rng) for path, rng in seen] == [("deep/a.ckpt", 0), ("deep/a.ckpt", 7)]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("none.ckpt",), 4, "none.ckpt: No such file"),
        (("net.npz",), 4, "net.npz.toml: No such file or directory"),
        (("net.npz", "--set", "k"), 2, "--set must be NAME=VALUE, got 'k'"),
    ],
)
def test_what_cannot_be_resumed_is_said(krylovh, words, code, message):
    found, _, err = krylovh("resume", *words, squared_error=False)
    assert (found, message in err, err.count("\n")) == (code, True, 1)


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(krylovh, monkeypatch):
    rng = np.random.default_rng(0)
    net = kh.Network((20, 30, 1), "tanh")
    net.with_theta(net.random_theta(0)).save("net.npz")
    np.savez("data.npz", X=rng.standard_normal((100, 20)), y=rng.standard_normal(100))
    words = ("trace", "net.npz", "data.npz", "--num-products", 64)
    assert krylovh(*words, "-o", "whole.h5")[0] == 0
    product, left = kh.HessianOperator._matmat, [2]

    def stopping(self, V):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return product(self, V)

    with monkeypatch.context() as patched:
        patched.setattr(kh.HessianOperator, "_matmat", stopping)
        krylovh(*words, "-o", "parts.h5", "--checkpoint", "c.ckpt")
    code, _, err = krylovh("resume", "c.ckpt", squared_error=False)
    assert code == 0, err
    assert Path("parts.h5").read_bytes() == Path("whole.h5").read_bytes()
    assert krylovh("resume", "c.ckpt", "--set", "num_products=80", squared_error=False)[0] == 0
    assert ResultStore("parts.h5", "r").load("trace").num_products == 80
    np.savez("data.npz", X=rng.standard_normal((100, 20)), y=rng.standard_normal(100))
    code, _, err = krylovh("resume", "c.ckpt", squared_error=False)
    assert code == 4
    assert "data" in err
