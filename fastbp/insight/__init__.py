"""Look inside backpropagation, at numbers of the compiled core: imported when it is first used."""

from fastbp.insight.gradient_check import GradientCheck, check_gradients
from fastbp.insight.three_ways import CostComparison, compare_costs

__all__ = ["CostComparison", "GradientCheck", "check_gradients", "compare_costs"]


def __dir__() -> list[str]:
    return __all__
