"""What a net is: layout of theta, forward pass, what is refused, and files."""

import numpy as np
import pytest
from krylovh.kernels import ACTIVATIONS

import oracles
from cases import TOPOLOGIES, random_net
from krylovh import Network
from krylovh.network import Parameter


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_positions_and_parameters_are_inverse_to_each_other(topology):
    net = random_net(topology, "tanh", np.random.default_rng(0))
    for position in range(net.num_parameters):
        layer, kind, source, i, j = net.parameter_at(position)
        assert net.position_of(layer, kind, i, j, source=source) == position
        matrix = net.weights(layer, source)[i, j] if kind == "weight" else net.biases(layer)[i]
        assert matrix == net.theta[position]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_layout_is_that_of_the_oracle_and_covers_theta_once(topology):
    net = random_net(topology, "tanh", np.random.default_rng(0))
    weights, biases = oracles.split(net, net.theta)
    for (layer, source), matrix in weights.items():
        assert np.array_equal(net.weights(layer, source), matrix)
    for layer, bias in biases.items():
        assert np.array_equal(net.biases(layer), bias)
    assert [block.start for block in net.blocks] == [0, *(block.stop for block in net.blocks[:-1])]
    assert net.num_parameters == sum(map(np.size, [*weights.values(), *biases.values()]))


def test_a_chain_has_the_order_of_torch_parameters():
    """nn.Sequential(Linear(2, 3), Linear(3, 1)).parameters(): weight (out, in), bias, weight, bias, each row-major."""
    net = Network((2, 3, 1), "tanh", np.arange(13.0))
    parts = [net.weights(1), net.biases(1), net.weights(2), net.biases(2)]
    assert [part.shape for part in parts] == [(3, 2), (3,), (1, 3), (1,)]
    assert np.array_equal(np.concatenate([part.ravel() for part in parts]), np.arange(13.0))
    assert net.parameter_at(5) == Parameter(1, "weight", 0, 2, 1)
    assert net.parameter_at(8) == Parameter(1, "bias", None, 2, None)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_equals_the_oracle(activation, topology, dtype):
    rng = np.random.default_rng(1)
    net = random_net(topology, activation, rng, output="tanh", dtype=dtype)
    X = rng.standard_normal((300, net.widths[0])).astype(dtype)
    before = X.copy()
    expected = oracles.outputs_and_slopes(net, net.theta.astype(float), X.astype(float))[0][-1]
    outputs = net.forward(X)
    assert outputs.dtype == dtype
    assert outputs.shape == expected.shape
    assert np.abs(outputs - expected).max() <= {np.float64: 1e-13, np.float32: 5e-6}[dtype]
    assert np.array_equal(X, before)


def test_forward_of_no_rows_and_of_other_layouts():
    net = random_net("chain", "tanh", np.random.default_rng(2))
    X = np.random.default_rng(3).standard_normal((7, 5))
    assert net.forward(X[:0]).shape == (0, 4)
    for variant in (np.asfortranarray(X), X[::-1].copy()[::-1], X.tolist()):
        assert np.array_equal(net.forward(variant), net.forward(X))
    for wrong in (X[0], X[:, :4], X[None]):
        with pytest.raises(ValueError, match=r"X must have shape \(N, 5\), got"):
            net.forward(wrong)
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match=r"X must be finite .* inf at index \(3, 2\)"):
        net.forward(X)


def test_depth_twenty_width_one_and_no_bias():
    rng = np.random.default_rng(4)
    for widths, bias in [((3,) * 21, True), ((1,) * 21, False), ((1, 1), False), ((2, 1), [False])]:
        net = Network(widths, "tanh", bias=bias)
        net = net.with_theta(net.random_theta(rng))
        X = rng.standard_normal((11, widths[0]))
        expected = oracles.outputs_and_slopes(net, net.theta, X)[0][-1]
        assert np.allclose(net.forward(X), expected, rtol=1e-13, atol=1e-15)


def test_the_weight_mask_is_one_on_weights_and_zero_on_biases():
    net = random_net("residual", "tanh", np.random.default_rng(5))
    kinds = [net.parameter_at(position).kind for position in range(net.num_parameters)]
    assert np.array_equal(net.weight_mask(), [kind == "weight" for kind in kinds])


def test_random_theta_is_reproducible_and_leaves_the_global_stream_alone():
    net = Network((4, 3, 2), "tanh")
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert np.array_equal(net.random_theta(1), net.random_theta(np.random.default_rng(1)))
    assert not np.array_equal(net.random_theta(1), net.random_theta(2))
    assert np.abs(net.random_theta(1)[:15]).max() <= np.sqrt(6 / 7)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_theta_is_copied_and_read_only():
    theta = np.arange(4.0)
    net = Network((1, 2), "tanh", theta)
    theta[:] = 9
    assert np.array_equal(net.theta, np.arange(4.0))
    for array in (net.theta, net.weights(1), net.biases(1)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert net.with_theta(net.theta + 1).theta[0] == 1


def test_types_of_theta():
    assert Network((1, 1), "tanh", np.zeros(2, np.float32)).theta.dtype == np.float32
    for theta in ([0, 1], [False, True], np.zeros(2, np.float16)):
        assert Network((1, 1), "tanh", theta).theta.dtype == np.float64
    assert Network.chain((2, 3, 1), "tanh").num_parameters == Network((2, 3, 1), "tanh").num_parameters == 13


DENSE = [[(0, "dense")], [(1, "dense")]]


@pytest.mark.parametrize(
    ("widths", "activations", "options", "message"),
    [
        ((2, 3), "swish", {}, "unknown activation 'swish'; known are identity, logistic"),
        ((2, 3, 1), ["tanh", "swish"], {}, "unknown activation 'swish'"),
        ((2, 3, 1), ["tanh"], {}, "activations must be one name or 2 names, got 1"),
        ((2,), "tanh", {}, "widths must name the input and at least one layer"),
        ((2, 0, 1), "tanh", {}, r"widths\[1\] must be at least 1, got 0"),
        ((-1, 2), "tanh", {}, r"widths\[0\] must be at least 1, got -1"),
        ((2, 3, 1), "tanh", {"bias": [True]}, "bias must have one entry for each of the 2 layers, got 1"),
        ((2, 3, 1), "tanh", {"sources": DENSE[:1]}, "sources must have one entry for each of the 2 layers, got 1"),
        ((2, 3, 1), "tanh", {"sources": [[(0, "identity")], DENSE[1]]},
         r"an identity edge needs equal widths, got 2 \(layer 0\) and 3 \(1\)"),
        ((2, 3, 1), "tanh", {"sources": [[(0, "dense"), (0, "dense")], DENSE[1]]}, "layer 1 has layer 0 twice"),
        ((3, 3, 1), "tanh", {"sources": [[(0, "dense"), (0, "identity")], DENSE[1]]}, "layer 1 has layer 0 twice"),
        ((2, 3, 1), "tanh", {"sources": [[(1, "dense")], DENSE[1]]}, "layer 1 can only be fed by layers 0 to 0, got 1"),
        ((2, 3, 1), "tanh", {"sources": [[(-1, "dense")], DENSE[1]]}, "layers 0 to 0, got -1"),
        ((2, 3, 1), "tanh", {"sources": [DENSE[0], [(0, "dense")]]}, "layer 1 feeds no other layer"),
        ((2, 3, 1), "tanh", {"sources": [DENSE[0], []]}, "layer 2 has no sources"),
        ((2, 3, 1), "tanh", {"sources": [DENSE[0], [(1, "conv")]]}, "must be 'dense' or 'identity', got 'conv'"),
        ((2, 2), "tanh", {"sources": [[(0, "identity")]], "bias": False}, "the net has no parameters"),
        ((2, 1), "tanh", {"theta": np.zeros(4)}, r"theta must have shape \(3,\), got \(4,\)"),
        ((2, 1), "tanh", {"theta": np.zeros((3, 1))}, r"theta must have shape \(3,\), got \(3, 1\)"),
        ((2, 1), "tanh", {"theta": [0, np.nan, np.inf]}, "theta must be finite .* found nan at index 1"),
        ((2, 1), "tanh", {"theta": [0, 0, -np.inf]}, "theta must be finite .* found -inf at index 2"),
    ],
)  # fmt: skip
def test_what_is_not_a_net_is_refused_by_name(widths, activations, options, message):
    with pytest.raises(ValueError, match=message):
        Network(widths, activations, **options)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.ma.masked_array(np.zeros(3), mask=[0, 1, 0]), "theta must not be a masked array"),
        (np.zeros(3, complex), "theta must be a real array, got dtype complex128"),
        (np.zeros(3, object), "theta must be a real array, got dtype object"),
        (["a", "b", "c"], "theta must be a real array, got dtype <U1"),
    ],
)
def test_parameters_that_are_no_real_array_are_refused(theta, message):
    with pytest.raises(TypeError, match=message):
        Network((2, 1), "tanh", theta)


def test_widths_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match=r"widths\[1\] must be an integer, at least 1, got 2.5"):
        Network((2, 2.5), "tanh")


def test_questions_about_parts_that_do_not_exist():
    net = random_net("residual", "tanh", np.random.default_rng(6))
    for call, message in [
        (lambda: net.parameter_at(net.num_parameters), "position must be in"),
        (lambda: net.parameter_at(-1), "position must be in"),
        (lambda: net.position_of(2, "bias", 0), "layer 2 has 0 blocks of kind 'bias'"),
        (lambda: net.position_of(3, "weight", 0, 0), "layer 3 has 2 blocks"),
        (lambda: net.position_of(1, "weight", 6, 0), "outside of shape"),
        (lambda: net.position_of(1, "weight", 0), "outside of shape"),
        (lambda: net.weights(3), "layer 3 has dense sources"),
        (lambda: net.biases(2), "layer 2 has no bias"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_saved_net_comes_back_to_the_bit(topology, dtype, suffix, tmp_path):
    net = random_net(topology, "gelu_tanh", np.random.default_rng(7), dtype=dtype)
    net.save(tmp_path / f"net.{suffix}")
    twin = Network.load(tmp_path / f"net.{suffix}")
    for name in ("widths", "activations", "sources", "bias", "num_parameters"):
        assert getattr(twin, name) == getattr(net, name)
    assert twin.theta.dtype == dtype
    assert np.array_equal(twin.theta, net.theta)


def test_tables_of_a_net_of_more_than_two_to_the_31_weights_would_not_overflow():
    """The tables alone, without theta: 50 layers of 10,000 units have 5e9 weights."""
    net = Network.__new__(Network)
    net.widths, net.bias, net.activations = (10_000,) * 51, (True,) * 50, ("tanh",) * 50
    net.sources = tuple(((l, "dense"),) for l in range(50))
    net.blocks = tuple(net._lay_out())
    layers, edges, twin = net._tables()
    assert net.blocks[-1].stop == 50 * 10_000 * 10_001
    assert layers.dtype == edges.dtype == np.int64
    assert edges[-1, 1] == 49 * 10_000 * 10_001
    assert twin == 49 * 10_000**2
