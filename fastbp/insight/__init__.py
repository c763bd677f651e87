"""Look inside a network: one sample through the five equations, number by number."""

from fastbp.insight.trace import Trace, trace

__all__ = ["Trace", "trace"]
