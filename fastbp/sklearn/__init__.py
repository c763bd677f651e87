"""scikit-learn's MLPClassifier and MLPRegressor, trained by the compiled core.

With the same random_state a fit of scikit-learn 1.9 is repeated up to rounding: the same initial weights, mini-batches,
penalty, learning rates and end.
"""

try:
    from sklearn.utils.validation import validate_data as _  # noqa: F401
except ImportError as error:
    raise ImportError('fastbp.sklearn needs scikit-learn 1.6 or newer: pip install "fastbp[sklearn]"') from error

from fastbp.sklearn.converters import register_converters
from fastbp.sklearn.mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "register_converters"]


def __dir__() -> list[str]:
    return __all__
