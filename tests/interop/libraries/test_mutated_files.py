"""2,000 mutated files of torch, and 300 flipped bits and bursts: nothing breaks, and no changed value is let in."""

import numpy as np
import pytest
import torch

from faults.formats import Format
from faults.mutations import burst, flip, mutate
from faults.test_mutated_files import MUTATED, read_many
from krylovh import load_network

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def write(path):
    torch.save({f"{name}": torch.ones(shape) for name, shape in {"0.weight": (4, 3), "1.weight": (2, 4)}.items()}, path)


def read(path):
    net = load_network(path, "tanh")
    return [net.theta, np.array(net.widths), np.array(net.activations)]


FORMAT = Format("net.pt", write, read, checked=True)  # a zip, whose members have checksums


@pytest.mark.parametrize(("change", "count"), [(mutate, MUTATED), (flip, 150), (burst, 150)])
def test_mutated_files_of_torch_are_refused_or_read_rightly(tmp_path, change, count):
    read_many(FORMAT, tmp_path, change, count, change.__name__, FORMAT.checked, "torch")
