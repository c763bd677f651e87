"""Look inside a network: what its errors, gradients and parameters do, from the numbers of the compiled core."""

from fastbp.insight.depth import DepthExperiment, LayerErrors, layer_errors, vanishing_gradients
from fastbp.insight.gradient_check import GradientCheck, check_gradients
from fastbp.insight.noise import DescentPaths, GradientNoise, descent_paths, gradient_noise
from fastbp.insight.page import page
from fastbp.insight.sensitivity import HebbianPairs, Saliency, Sensitivity, hebbian_pairs, saliency, sensitivity
from fastbp.insight.statistics import Statistics
from fastbp.insight.three_ways import CostComparison, compare_costs
from fastbp.insight.trace import Trace, trace

__all__ = ["CostComparison", "DepthExperiment", "DescentPaths", "GradientCheck", "GradientNoise", "HebbianPairs",
           "LayerErrors", "Saliency", "Sensitivity", "Statistics", "Trace", "check_gradients", "compare_costs",
           "descent_paths", "gradient_noise", "hebbian_pairs", "layer_errors", "page", "saliency", "sensitivity",
           "trace", "vanishing_gradients"]


def __dir__() -> list[str]:
    return __all__
