"""Read a state dict of torch from standard input, write its arrays to standard output; run as a process of its own.

It imports nothing of this library: it is run as a script.
"""

import io
import json
import os
import resource
import sys
import zipfile
from typing import Any, NoReturn

REFUSED, MISSING = 3, 4  # exit codes; the reason is on standard error
SAFE = (2, 6)  # before this release weights_only=True could be made to run code (CVE-2025-32434)
INFLATED_LIMIT = 1 << 32


def main() -> None:
    """Read, check, write."""
    size = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + (1 << 26), 2 * size + (1 << 26)))
    try:
        import numpy as np
        import torch
    except ImportError:
        stop(MISSING, "files of torch need torch: pip install 'krylovh[torch]'")
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < SAFE:
        stop(REFUSED, f"torch {torch.__version__} does not read files of strangers safely; install torch >= 2.6")
    limit = (1 << 31) + 4 * size
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    content = sys.stdin.buffer.read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > 2 * size + (1 << 20):
            stop(REFUSED, "its members inflate to more than the file explains")
        damaged = archive.testzip()  # torch does not look at the checksums
        if damaged is not None:
            stop(
                REFUSED, f"its member {damaged!r} does not fit its checksum (set_crc32_options(False) leaves them out)"
            )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        stop(REFUSED, f"torch refuses it with weights_only=True: {type(error).__name__}: {str(error)[:200]}")
    if isinstance(state, dict) and set(state) == {"state_dict"}:
        state = state["state_dict"]
    if not isinstance(state, dict):
        stop(REFUSED, f"holds a {type(state).__name__}; needed is a state dict")
    arrays: dict[str, Any] = {}
    storages: set[int] = set()
    for i, (name, tensor) in enumerate(state.items()):
        if not isinstance(name, str) or len(name) > 200 or not name.isprintable():
            stop(REFUSED, f"holds the name {str(name)[:60]!r}")
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            stop(REFUSED, f"{name!r} is a {type(tensor).__name__}; needed is a state dict of tensors")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            stop(REFUSED, f"{name!r} is no dense tensor, but {tensor.layout} on {tensor.device}")
        if not tensor.dtype.is_floating_point:
            stop(REFUSED, f"{name!r} holds {tensor.dtype}; needed are floating point numbers")
        if tensor.numel() * tensor.element_size() > size or (tensor.numel() and tensor.data_ptr() in storages):
            stop(REFUSED, f"{name!r} shares its storage, or repeats it (expanded or tied tensors)")
        storages.add(tensor.data_ptr())
        single = tensor if tensor.dtype in (torch.float64, torch.float32) else tensor.float()
        arrays[f"array{i}"] = single.detach().contiguous().numpy()
    header = json.dumps({"names": list(state)}).encode()
    np.savez(sys.stdout.buffer, header=np.frombuffer(header, np.uint8), **arrays)


def stop(code: int, reason: str) -> NoReturn:
    """End with a reason."""
    sys.stderr.write(reason)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
