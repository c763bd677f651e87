"""fastbp: backpropagation, compiled. Trains dense neural networks on the CPU."""

from fastbp import startup as startup  # isort: skip  # first: the other imports take half a second

from typing import TYPE_CHECKING, Any

from fastbp import callbacks, data, losses, metrics, optimizers, schedules
from fastbp.callbacks import History
from fastbp.derivatives import hvp, input_gradients, jvp, per_sample_gradient_norms, per_sample_gradients, vjp
from fastbp.diagnosis import Diagnosis, diagnose
from fastbp.gradient import cost_and_gradient
from fastbp.network import Network
from fastbp.optimizers import SGD, Adagrad, Adam, AdamW, Lion, NAdam, RMSprop, Rprop
from fastbp.scipy import objective
from fastbp.training.guard import DivergenceError
from fastbp.training.many import fit_many
from fastbp.training.notes import TrainingWarning
from fastbp.training.range_finder import EtaRange, find_eta
from fastbp.training.trainer import Trainer
from fastbp.workspace import Workspace

if TYPE_CHECKING:
    from fastbp import compiled

__version__ = "0.1.0"
__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Diagnosis", "DivergenceError", "EtaRange", "History", "Lion", "NAdam",
           "Network", "RMSprop", "Rprop", "Trainer", "TrainingWarning", "Workspace", "callbacks", "compiled",
           "cost_and_gradient", "data", "diagnose", "find_eta", "fit_many", "hvp", "input_gradients", "jvp", "losses",
           "metrics", "objective", "optimizers", "per_sample_gradient_norms", "per_sample_gradients", "schedules",
           "vjp"]


LATER = ("compiled", "insight", "mpi", "sklearn", "torch")  # sklearn needs scikit-learn


def __getattr__(name: str) -> Any:
    """Import what most programs never use when it is first used."""
    if name in LATER:
        import importlib

        return importlib.import_module(f"fastbp.{name}")
    raise AttributeError(f"module 'fastbp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
