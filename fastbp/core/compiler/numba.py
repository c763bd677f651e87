"""The only importer of Numba's internals. tests/contract names each one that is relied on, and how.

What Numba documents (njit, types, intrinsic, ...) is imported from Numba itself.
"""

from numba.core import cgutils, config
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.codegen import JITCodeLibrary, get_host_cpu_features
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu_options import ParallelOptions
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError, TypingError
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing.templates import AttributeTemplate
from numba.core.untyped_passes import (
    FixupArgs,
    GenericRewrites,
    InlineInlinables,
    IRProcessing,
    ReconstructSSA,
    TranslateByteCode,
)

__all__ = ["AttributeTemplate", "CPUDispatcher", "Compiler", "Dispatcher", "FunctionCache", "IndexDataCacheFile",
           "JITCodeLibrary", "NullCache", "NumbaError", "PASSES", "ParallelOptions", "PassManager", "TypingError",
           "cgutils", "config", "get_host_cpu_features", "global_compiler_lock", "populate_array", "rtsys"]

PASSES = (TranslateByteCode, FixupArgs, IRProcessing, GenericRewrites, InlineInlinables, ReconstructSSA,
          NopythonTypeInference, PreLowerStripPhis, IRLegalization, NativeLowering, NoPythonBackend)


def populate_array(*arguments, **keywords):
    """Fill in an array's structure, in code that is being emitted."""
    from numba.np.arrayobj import populate_array  # slow to import, and only a compiler needs it

    return populate_array(*arguments, **keywords)
