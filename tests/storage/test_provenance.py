"""Every result says what it came from, and nothing about who computed it."""

import getpass
import platform
import socket
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from krylovh import Estimate, ResultStore, Status
from krylovh.storage.digest import array_digest, content_digest
from krylovh.storage.provenance import data_digest, environment, network_digest, provenance_of

FORMULA = "1/4 Σ_n ½|f(x_n) - y_n|² + 0.01/2 |θ|²"
ESTIMATE = Estimate(1.0, 0.1, (0.8, 1.2), 30, 7, Status.CONVERGED, "hutchinson")


def objective(**fields):
    net = SimpleNamespace(
        widths=(2, 3, 1),
        activations=("tanh", "identity"),
        sources=(((0, "dense"),), ((1, "dense"),)),
        bias=(True, True),
        theta=np.arange(13.0),
    )
    values = dict(
        net=net, X=np.ones((4, 2)), y=np.ones(4), sample_weight=None, loss="squared_error", reduction="mean",
        dtype=np.dtype("f8"), threads=2, formula=lambda: FORMULA,
    )  # fmt: skip
    return SimpleNamespace(**(values | fields))


def test_a_result_carries_versions_machine_seed_and_objective(tmp_path):
    store = ResultStore(tmp_path / "run.h5")
    store.save("trace", ESTIMATE, objective=objective(), provenance={"probes": "rademacher", "start": (1, 2.5)})
    facts = store.provenance("trace")
    assert facts["numpy"] == np.__version__
    assert facts["h5py"] == h5py.__version__
    assert facts["python"] == platform.python_version()
    assert "openblas" in facts["blas"] or "mkl" in facts["blas"] or "blis" in facts["blas"]
    assert facts["cores"] >= 1
    assert facts["cpu"]
    assert facts["seed"] == 7
    assert facts["threads"] == 2
    assert facts["objective"] == FORMULA
    assert facts["widths"] == (2, 3, 1)
    assert facts["activations"] == "tanh, identity"
    assert facts["network_digest"] == network_digest(objective().net)
    assert facts["data_digest"] == data_digest(np.ones((4, 2)), np.ones(4))
    assert facts["probes"] == "rademacher"
    assert facts["start"] == (1, 2.5)
    assert "created" not in facts


def test_the_time_is_stored_only_if_given(tmp_path):
    store = ResultStore(tmp_path / "run.h5")
    store.save("a", np.ones(1), created="2026-01-01T00:00:00Z")
    assert store.provenance("a")["created"] == "2026-01-01T00:00:00Z"


def test_the_callers_facts_win(tmp_path):
    store = ResultStore(tmp_path / "run.h5")
    store.save_all({"a": ESTIMATE}, provenance={"seed": 2**100})
    assert store.provenance("a")["seed"] == str(2**100)


def test_no_host_user_or_path_is_stored(tmp_path):
    store = ResultStore(tmp_path / "run.h5")
    store.save("trace", ESTIMATE, objective=objective())
    content = store.path.read_bytes()
    assert str(tmp_path).encode() not in content
    assert tmp_path.name.encode() not in content
    host, user = socket.gethostname(), getpass.getuser()
    facts = " ".join(map(str, store.provenance("trace").values())).split()
    assert host not in facts
    assert user not in facts


def test_threads_that_were_not_chosen_are_not_stored():
    assert "threads" not in provenance_of(objective(threads=None))


def test_the_environment_is_the_same_each_time():
    assert environment() == environment()


@pytest.mark.parametrize("change", ["widths", "activations", "sources", "bias", "theta"])
def test_the_digest_of_a_net_sees_every_change(change):
    other = objective().net
    values = {
        "widths": (2, 1, 3), "activations": ("relu", "identity"), "sources": (((0, "dense"),), ((0, "dense"),)),
        "bias": (True, False), "theta": np.nextafter(other.theta, 1),
    }  # fmt: skip
    setattr(other, change, values[change])
    assert network_digest(other) != network_digest(objective().net)


def test_the_digest_of_data_sees_every_change():
    X, y = np.arange(6.0).reshape(3, 2), np.arange(3)
    changed = [(X[::-1], y), (X, y[::-1]), (X, y.astype(float)), (X.astype("f4"), y), (X, y, np.ones(3)), (X[:2], y)]
    digests = {data_digest(*data) for data in [(X, y), *changed]}
    assert len(digests) == 1 + len(changed)


def test_a_digest_does_not_depend_on_memory_layout(tmp_path):
    array = np.random.default_rng(0).standard_normal((3000, 900))  # more than one piece
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        same = [np.asfortranarray(array), array.astype(">f8"), file.create_dataset("x", data=array, chunks=(7, 100))]
        padded = np.zeros((3000, 901))
        padded[:, 1:] = array
        assert {array_digest(x) for x in [*same, padded[:, 1:]]} == {array_digest(array)}


def test_a_digest_sees_shape_dtype_and_every_bit():
    arrays = [
        np.zeros(4), np.zeros((2, 2)), np.zeros((4, 1)), np.zeros(8, "f4"), np.zeros(4, "i8"), -np.zeros(4),
        np.zeros(0), np.zeros((0, 5)), np.zeros(()), np.array("a"), np.array(b"a"), np.array([True]),
    ]  # fmt: skip
    assert len({array_digest(array) for array in arrays}) == len(arrays)


def test_a_digest_of_names_cannot_be_confused():
    contents = [{}, {"a": None}, {"a": ""}, {"a": {}}, {"a": {"b": 1}}, {"ab": 1}, {"a": 1}, {"a": 1, "b": 1}]
    assert len({content_digest(content) for content in contents}) == len(contents)


def test_objects_have_no_digest():
    with pytest.raises(TypeError, match="dtype object"):
        array_digest(np.array([{}]))


def test_facts_may_be_empty_tuples_and_empty_text(tmp_path):
    store = ResultStore(tmp_path / "run.h5")
    store.save("a", {}, provenance={"blocks": (), "note": "", "π": -0.0, "big": 2**63 - 1, "flag": True})
    facts = store.provenance("a")
    assert store.load("a") == {}
    assert [facts[key] for key in ("blocks", "note", "π", "big", "flag")] == [(), "", 0.0, 2**63 - 1, 1]
    assert np.signbit(facts["π"])
