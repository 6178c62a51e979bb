"""Tokens and the token file.

    Tokens        codes and what decoding them needs            tokens.py
    TokenReader   random access to a file of many samples       reader.py
    TokenWriter   makes a file sample by sample                 writer.py
    flatten_codes, unflatten_codes                              vocabulary.py
    the bytes of the file                                       cursor.py header.py record.py payload.py index.py scan.py

The format is described in docs/token-file.md. Nothing here knows a tokenizer, and importing it does not import torch.
"""

from tokkit.tokens.header import TokenHeader
from tokkit.tokens.reader import DamagedSampleError, TokenReader
from tokkit.tokens.record import SampleInfo
from tokkit.tokens.tokens import Tokens
from tokkit.tokens.vocabulary import bos_id, eos_id, flatten_codes, unflatten_codes, vocabulary_size
from tokkit.tokens.writer import TokenWriter

__all__ = [
    "DamagedSampleError",
    "SampleInfo",
    "TokenHeader",
    "TokenReader",
    "TokenWriter",
    "Tokens",
    "bos_id",
    "eos_id",
    "flatten_codes",
    "unflatten_codes",
    "vocabulary_size",
]
