"""How much is added to the curvature, steered by how well the model foretold the objective.

References
----------
Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters.
Martens (2010), Deep learning via Hessian-free optimization.
"""

__all__ = ["LevenbergMarquardtRule"]


class LevenbergMarquardtRule:
    """Multiply the damping where the reduction ratio is below 1/4, divide it where it is above 3/4.

    Parameters
    ----------
    value : float
        To start with; positive.
    factor : float
        More than 1.  Martens has 3/2.
    floor : float
        Smallest damping.

    Examples
    --------
    >>> rule = LevenbergMarquardtRule(1.0)
    >>> rule.update(0.9)
    >>> rule.value
    0.6666666666666666
    >>> rule.update(0.1)
    >>> rule.value
    1.0
    """

    def __init__(self, value: float, *, factor: float = 1.5, floor: float = 0.0) -> None:
        self.value = float(value)
        self.factor = factor
        self.floor = floor

    def update(self, ratio: float) -> None:
        """Take in the ratio of actual to predicted reduction of the last step."""
        if not ratio >= 0.25:
            self.value *= self.factor
        elif ratio > 0.75:
            self.value = max(self.value / self.factor, self.floor)
