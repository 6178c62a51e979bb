"""What pyproject.toml cannot say: one C file for x86-64, loaded through ctypes, with OpenMP where the platform's compiler has it.

Without a C compiler, or on other processors, the installation goes on, and lookups on a CPU take matrix products.
"""

import platform
import sys

from setuptools import Extension, setup

openmp = ["-fopenmp"] if sys.platform.startswith("linux") else []
nearest = Extension(
    "tokkit.ops.codebook_lookup._nearest",
    ["tokkit/ops/codebook_lookup/nearest.c"],
    depends=["tokkit/ops/codebook_lookup/nearest_rows.h"],
    extra_compile_args=["-O3", *openmp],
    extra_link_args=openmp,
    optional=True,
)
setup(ext_modules=[nearest] if platform.machine() == "x86_64" else [])
