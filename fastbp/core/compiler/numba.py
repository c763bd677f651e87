"""The only importer of Numba's internals. tests/contract lists each one that fastbp relies on, and how.

What Numba documents (njit, types, intrinsic, ...) is imported from Numba itself. With FASTBP_PLAIN=1 only the first of
these is used, and functions are compiled plainly: see plain.py.
"""

from numba.core.typing.templates import AttributeTemplate

from fastbp.core.compiler.common import PLAIN

if not PLAIN:
    from numba.core import config
    from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.compiler_machinery import PassManager
    from numba.core.cpu_options import ParallelOptions
    from numba.core.registry import CPUDispatcher
    from numba.core.runtime import rtsys
    from numba.core.typed_passes import (
        IRLegalization,
        NativeLowering,
        NoPythonBackend,
        NopythonTypeInference,
        PreLowerStripPhis,
    )
    from numba.core.untyped_passes import (
        FixupArgs,
        GenericRewrites,
        InlineInlinables,
        IRProcessing,
        ReconstructSSA,
        TranslateByteCode,
    )

    PASSES = (TranslateByteCode, FixupArgs, IRProcessing, GenericRewrites, InlineInlinables, ReconstructSSA,
              NopythonTypeInference, PreLowerStripPhis, IRLegalization, NativeLowering, NoPythonBackend)

__all__ = ["AttributeTemplate", "CPUDispatcher", "Compiler", "FunctionCache", "IndexDataCacheFile", "JITCodeLibrary",
           "NullCache", "PASSES", "ParallelOptions", "PassManager", "config", "global_compiler_lock", "rtsys"]
