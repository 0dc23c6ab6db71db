"""The report page without a browser: what is in it, and that nothing gets out of it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import krylovh as kh
from krylovh import ResultStore, write_report
from krylovh.report.plots import plots_of
from krylovh.report.traces import typed

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\u2028&amp;\"'"
A = np.diag(np.arange(1.0, 101.0))


class Page(HTMLParser):
    """What a browser would see: elements, text, and the data of the plots."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.plots, self.open_script = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open_script = dict(attributes).get("type", "code") if tag == "script" else None

    def handle_data(self, data):
        if self.open_script == "application/json":
            self.plots.append(json.loads(data, parse_constant=lambda name: pytest.fail(name)))
        elif self.open_script is None:
            self.texts.append(data)

    def handle_endtag(self, tag):
        self.open_script = None if tag == "script" else self.open_script


def report(folder, results, **provenance):
    store = ResultStore(folder / "run.h5", "w")
    store.save_all(results, provenance=provenance)
    write_report(store, folder / "report.html")
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def spectrum():
    return {
        "largest": kh.eigsh(A, 3, rng=0),
        "density": kh.spectral_density(A, num_probes=4, num_steps=12, rng=0),
        "trace": kh.trace(A, num_products=10, rng=0),
        "exact": np.arange(1.0, 101.0),
    }


def test_numbers_errors_provenance_and_the_command_are_there(tmp_path, spectrum):
    page = Page(report(tmp_path, spectrum, command="krylovh spectrum net.npz data.npz --rng 0", objective="E = 1"))
    text = " ".join(page.texts)
    assert "krylovh spectrum net.npz data.npz --rng 0 --output run.h5" in text
    assert f"{spectrum['largest'].residual_norms[-1]:.1e}" in text
    assert f"{spectrum['trace'].value:.8g}" in text
    assert kh.__version__ in text
    assert len(page.plots) == 4  # density, cumulative, nodes; eigenvalues


def test_the_page_needs_nothing_from_outside_and_runs_its_own_scripts_only(tmp_path, spectrum):
    text = report(tmp_path, spectrum)
    page = Page(text)
    for _, attributes in page.elements:
        assert not attributes.get("src")
        assert attributes.get("href", "#").startswith("#")
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';")


def test_hostile_text_stays_text(tmp_path, spectrum):
    name = HOSTILE.replace("/", "")
    results = {name: spectrum["largest"], "density": spectrum["density"]}
    text = report(
        tmp_path, results, command=HOSTILE, objective=HOSTILE, activations=HOSTILE, **{HOSTILE.replace("/", ""): 1}
    )
    page = Page(text)
    assert not [a for tag, a in page.elements if tag == "img" or any(key.startswith("on") for key in a)]
    assert sum(tag == "script" and "type" not in a for tag, a in page.elements) == 2
    assert HOSTILE in " ".join(page.texts)
    labels = [
        label
        for plot in page.plots
        for view in plot["views"].values()
        for t in view["data"]
        for label in t.get("text", [])
    ]
    assert any("&lt;img" in label for label in labels)
    assert not any("<img" in label for label in labels)


def test_the_same_file_gives_the_same_bytes(tmp_path, spectrum):
    assert report(tmp_path, spectrum) == report(tmp_path, spectrum)


def test_a_page_of_numbers_alone_has_no_script(tmp_path, spectrum):
    text = report(tmp_path, {"trace": spectrum["trace"]})
    assert "<script" not in text
    assert len(text) < 20_000
    assert "script-src 'none'" in text


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    store = ResultStore(tmp_path / "run.h5", "w")
    store.save("a", np.zeros(1))
    store.delete("a")
    write_report(store, tmp_path / "report.html")
    assert "The file holds no results." in (tmp_path / "report.html").read_text()


def test_damaged_files_give_no_page(tmp_path):
    (tmp_path / "run.h5").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        write_report(tmp_path / "run.h5", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_an_existing_page_is_replaced_at_once(tmp_path, spectrum, monkeypatch):
    report(tmp_path, spectrum)
    before = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr("krylovh.storage.atomic.os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path / "run.h5", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == before


def decoded(form):
    return np.frombuffer(base64.b64decode(form["bdata"]), form["dtype"])


def test_many_nodes_are_counted_in_bins_but_for_the_outermost(spectrum):
    rng = np.random.default_rng(0)
    nodes = np.sort(rng.standard_normal((10, 3000)), axis=1)
    weights = np.full(nodes.shape, 1 / 3000)
    many = kh.SpectralDensity(nodes, weights, 10**6, 30_000, 0, kh.Status.CONVERGED)
    [trace] = plots_of("density", many, {})["quadrature nodes"]["views"]["linear eigenvalues"]["data"]
    x, y = decoded(trace["x"]), decoded(trace["y"])
    every = np.sort(nodes.ravel())
    assert len(x) < 2000
    assert np.array_equal(x[:200], every[:200])
    assert np.array_equal(x[-200:], every[-200:])
    assert y.sum() == pytest.approx(1.0)
    assert x @ y == pytest.approx(every.mean())
    assert "nodes around" in trace["text"][len(x) // 2]


def test_the_curves_are_those_of_the_result(spectrum):
    density = spectrum["density"]
    plots = plots_of("density", density, spectrum)
    band, line, exact = plots["cumulative spectrum"]["views"]["linear eigenvalues"]["data"]
    x = decoded(line["x"])
    assert np.array_equal(decoded(line["y"]), density.cumulative(x))
    assert np.array_equal(decoded(band["y"])[: len(x)], density.band(x)[1])
    assert decoded(exact["y"])[-1] == 1.0
    points = plots["density"]["views"]["logarithmic eigenvalues"]["data"][-1]
    assert points["text"][-1] == f"largest<br>100 ± {spectrum['largest'].residual_norms[-1]:.1e}"


@pytest.mark.parametrize("scale", ["linear", "signed_log"])
def test_the_smoothed_curve_is_that_of_the_result(spectrum, scale):
    density = spectrum["density"]
    view = plots_of("density", density, {})["density"]["views"][
        {"linear": "linear", "signed_log": "logarithmic"}[scale] + " eigenvalues"
    ]
    grid = density.grid(1200, scale=scale)
    y = decoded(view["data"][1]["y"])
    truth = density.density(grid, scale=scale)
    floor = y.min()
    assert np.abs(y - np.maximum(truth, floor)).max() <= 2e-3 * truth.max()
    upper = decoded(view["data"][0]["y"])[:1200]
    assert np.allclose(
        upper, np.maximum(truth + density.density_error(grid, scale=scale), floor), atol=4e-3 * truth.max()
    )


def test_typed_arrays_keep_every_bit():
    values = np.array([[0.1, np.nextafter(1, 2)], [-0.0, 1e-320]])
    form = typed(values)
    assert form["shape"] == "2, 2"
    assert decoded(form).tobytes() == values.tobytes()
