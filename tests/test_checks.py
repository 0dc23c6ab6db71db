"""What callers pass in is checked by name, value and bound."""

import numpy as np
import pytest

from krylovh.checks import whole_number


@pytest.mark.parametrize("value", [1.0, True, np.True_, "3", None, np.float64(2)])
def test_whole_number_refuses_what_is_no_integer(value):
    with pytest.raises(TypeError, match="num_probes must be an integer, at least 1, got"):
        whole_number("num_probes", value, 1)


def test_whole_number_takes_integers_within_its_bounds():
    assert whole_number("k", np.int64(3), 1, 3) == 3
    assert type(whole_number("k", np.int64(3), 1)) is int
    with pytest.raises(ValueError, match=r"k must be in \[1, 3\], got 4"):
        whole_number("k", 4, 1, 3)
    with pytest.raises(ValueError, match="k must be at least 0, got -1"):
        whole_number("k", -1, 0)
