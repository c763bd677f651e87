"""Look inside a network: what its errors, gradients and parameters do, from the numbers of the compiled core."""

from fastbp.insight.depth import DepthExperiment, LayerErrors, layer_errors, vanishing_gradients
from fastbp.insight.noise import DescentPaths, GradientNoise, descent_paths, gradient_noise
from fastbp.insight.sensitivity import HebbianPairs, Saliency, Sensitivity, hebbian_pairs, saliency, sensitivity

__all__ = ["DepthExperiment", "DescentPaths", "GradientNoise", "HebbianPairs", "LayerErrors", "Saliency",
           "Sensitivity", "descent_paths", "gradient_noise", "hebbian_pairs", "layer_errors", "saliency",
           "sensitivity", "vanishing_gradients"]


def __dir__() -> list[str]:
    return __all__
