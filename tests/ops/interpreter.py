"""Run this package's Triton kernels on the CPU: import this before any kernel, with TRITON_INTERPRET=1 in the environment.

Triton 3.6's interpreter reads loop bounds with `int(array)`, which numpy 2.4 refuses for arrays of one element that are not
0-dimensional; `enable` replaces that one conversion.
"""

import os


def enable() -> None:
    """Make the interpreter work with any numpy. Raises RuntimeError where it is not switched on."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("set TRITON_INTERPRET=1 before Triton is imported")
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor

    def patched(tensor: type, scope: object) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
