"""What pyproject.toml cannot say: one C file, loaded through ctypes, with OpenMP where the compiler of the platform has it.

Without a C compiler the installation goes on, and lookups on a CPU take matrix products.
"""

import sys

from setuptools import Extension, setup

openmp = ["-fopenmp"] if sys.platform.startswith("linux") else []
nearest = Extension(
    "tokkit.ops.codebook_lookup._nearest",
    ["tokkit/ops/codebook_lookup/nearest.c"],
    depends=["tokkit/ops/codebook_lookup/nearest_rows.h"],
    extra_compile_args=[] if sys.platform == "win32" else ["-O3", *openmp],
    extra_link_args=openmp,
    optional=True,
)
setup(ext_modules=[nearest])
