"""Is the operator symmetric?  A test by products, before anything is built on it.

For a symmetric operator ``u'Av = v'Au``.  What rounding, or noise in the products, may add to the difference is not
known beforehand, but can be measured: a matrix that is not symmetric is additive all the same, so that
``A(u + v) - Au - Av`` shows the error of the products alone.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = ["check_matrix_symmetry", "check_symmetry"]


def check_symmetry(
    A: Callable[[Array], Array], U: Array, AU: Array, eps: float, *, margin: float = 8.0, name: str = "A"
) -> None:
    """Raise ``ValueError`` unless ``u_i'A u_j = u_j'A u_i`` for all given vectors, to rounding.

    Costs no product where the difference is within ``margin * eps``, and one otherwise.  A single entry of a matrix
    that is wrong by delta shows as about ``delta / n``.

    Parameters
    ----------
    A : callable
        ``A(u)`` of shape (n,).
    U, AU : ndarray, shape (n, b)
        Random vectors of length one, and ``A U``.
    eps : float
        Machine epsilon of the products.
    margin : float
        What rounding may add up to without a closer look.
    name : str
        What the operator is called in the message.

    Examples
    --------
    >>> A, U = np.array([[1.0, 2.0], [3.0, 4.0]]), np.eye(2)
    >>> check_symmetry(A.dot, U, A @ U, 2.0**-52)
    Traceback (most recent call last):
    ValueError: A must be symmetric: u'Av and v'Au differ by 1.3e-01 times (|Au| + |Av|)...
    """
    lengths = np.linalg.norm(AU, axis=0)
    scale = np.add.outer(lengths, lengths)
    forms = U.T @ AU
    difference = np.abs(forms - forms.T)
    if (difference <= margin * eps * scale).all():
        return
    i, j = np.unravel_index(np.argmax(difference), difference.shape)
    noise = float(np.linalg.norm(A(U[:, i] + U[:, j]) - AU[:, i] - AU[:, j]))
    if difference[i, j] > 10 * (noise + eps * scale[i, j]):
        relative = 1 / scale[i, j]
        raise ValueError(
            f"{name} must be symmetric: u'Av and v'Au differ by {difference[i, j] * relative:.1e} times (|Au| + |Av|) "
            f"for random u and v; the error of the products explains {noise * relative:.1e}"
        )


def check_matrix_symmetry(A: Callable[[Array], Array], M: Array, u: Array, eps: float) -> None:
    """Raise ``ValueError`` unless the matrix ``M`` of all products is symmetric to rounding.

    Costs no product where ``|M - M'|`` is within a few ``eps``, and one otherwise.

    Parameters
    ----------
    A : callable
        ``A(u)`` of shape (n,).
    M : ndarray, shape (n, n)
        ``A I``.
    u : ndarray, shape (n,)
        A random vector.
    eps : float
        Machine epsilon of the products.

    Examples
    --------
    >>> M = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> check_matrix_symmetry(M.dot, M, np.ones(2), 2.0**-52)
    Traceback (most recent call last):
    ValueError: A must be symmetric: A[0, 1] and A[1, 0] differ by 2.5e-01 of the largest entry...
    """
    difference = np.abs(M - M.T)
    largest = float(np.abs(M).max())
    if (difference <= 8 * eps * largest).all():
        return
    i, j = sorted(int(index) for index in np.unravel_index(np.argmax(difference), difference.shape))
    noise = float(np.abs(A(u) - M @ u).max())  # A is additive, symmetric or not
    if difference[i, j] > 10 * (noise + eps * largest):
        raise ValueError(
            f"A must be symmetric: A[{i}, {j}] and A[{j}, {i}] differ by {difference[i, j] / largest:.1e} of the "
            f"largest entry; the error of the products explains {noise / largest:.1e}"
        )
