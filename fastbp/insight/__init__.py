"""Look inside backpropagation, at numbers of the compiled core: imported when it is first used."""

from fastbp.insight.gradient_check import GradientCheck, check_gradients
from fastbp.insight.three_ways import CostComparison, compare_costs
from fastbp.insight.trace import Trace, trace

__all__ = ["CostComparison", "GradientCheck", "Trace", "check_gradients", "compare_costs", "trace"]


def __dir__() -> list[str]:
    return __all__
