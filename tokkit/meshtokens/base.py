"""What every rule-based mesh tokenizer is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from tokkit.errors import TokenFileError
from tokkit.tokens import Tokens


class MeshTokens(ABC):
    """Base of rule-based mesh tokenizers: a mesh [9, F] to a sequence of ids of one vocabulary, and back.

    Attributes:
        name: registered.
        vocabulary_size: ids are below it.
    """

    kind: ClassVar[str] = "meshtokens"
    name: ClassVar[str]
    vocabulary_size: int

    @abstractmethod
    def encode(self, values: Tensor, *, name: str = "") -> Tokens:
        """Tokens of one mesh [9, F], codes [1, L, 1].

        Raises:
            InputError: the mesh is empty or too small for float32.
        """

    @abstractmethod
    def decode(self, tokens: Tokens) -> Tensor:
        """The mesh [9, F] of one sample's tokens, at its place.

        Raises:
            TokenFileError: another tokenizer's tokens, or a sequence that no mesh has.
        """

    @property
    @abstractmethod
    def rules(self) -> str:
        """Everything that the meaning of an id depends on, as text."""

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name these rules."""
        return hashlib.sha256(f"{self.name} {self.rules}".encode()).hexdigest()[:32]

    def check(self, tokens: Tokens) -> None:
        """Refuse tokens of another tokenizer, or of several samples.

        Raises:
            TokenFileError: naming both.
        """
        if tokens.fingerprint != self.fingerprint:
            made_by = tokens.tokenizer or "another tokenizer"
            raise TokenFileError(f"these tokens were made by {made_by!r}, not by {self.name!r} with {self.rules}")
        if len(tokens) != 1:
            raise TokenFileError(f"{self.name}: one sample at a time, got {len(tokens)}; decode tokens[i]")
