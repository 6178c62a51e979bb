import copy
import pickle
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field

import tokkit
from tokkit import registry
from tokkit.bounds import as_read, violated
from tokkit.errors import InputError, RegistryError
from tokkit.quantizers.base import Quantizer


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(RegistryError, match=r"no quantizer 'fsqq', did you mean 'fsq'\?"):
        tokkit.build("quantizer", "fsqq")
    with pytest.raises(RegistryError, match="did you mean 'quantizer'"):
        tokkit.names("quantizers")


def test_options_are_checked_by_name() -> None:
    with pytest.raises(InputError, match=r"quantizer 'fsq' has no option 'level', did you mean 'levels'\?"):
        tokkit.build("quantizer", "fsq", level=(8, 5))
    with pytest.raises(InputError, match="quantizer 'nested' needs quantizer"):
        tokkit.build("quantizer", "nested", num_tokens=4)


@pytest.mark.parametrize(
    ("kind", "name", "options", "said"),
    [
        ("loss", "l1", {"weight": -1.0}, r"loss 'l1': weight must be at least 0, got -1.0"),
        ("loss", "l1", {"weight": float("nan")}, "weight must be at least 0, got nan"),
        ("quantizer", "vq", {"dim": 8, "codebook_size": 16, "metric": "cosin"}, "metric must be one of euclidean, cosine, got 'cosin'"),
        ("decoder", "dac", {"channels": 0}, "channels must be at least 1, got 0"),
    ],
)
def test_options_are_checked_by_what_their_annotations_say(kind: str, name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        tokkit.build(kind, name, **options)


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (Annotated[int, Field(ge=1, lt=5)], 5, "below 5"),
        (Annotated[float, Field(gt=0)] | None, None, None),
        (Annotated[float, Field(gt=0)] | None, 0, "above 0"),
        (Literal["auto"] | int, 3, None),
        (Literal["auto", "cpu"], "gpu", "one of auto, cpu"),
        (tuple[Annotated[int, Field(le=9)], ...], [3, 10], "at most 9"),
        (tuple[int, Annotated[int, Field(le=9)]], (10, 9), None),
        (list[Annotated[int, Field(le=9)]], [1, 2], None),
        (tuple[()], (), None),
        (int, "eight", None),
    ],
)
def test_what_an_annotation_says(annotation: object, value: object, said: str | None) -> None:
    assert violated(annotation, value) == said


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (Annotated[float, Field(ge=0)] | None, 1, 1.0),
        (float | None, None, None),
        (int | float, 1, 1),
        (bool, True, True),
        (tuple[float, ...] | None, [1, 2.5], (1.0, 2.5)),
        (tuple[int, float], [1, 2], (1, 2.0)),
        (tuple[int, ...], (np.int64(3),), (3,)),
        (str | tuple[str, ...], "a", "a"),
        (None, [1], (1,)),
    ],
)
def test_an_option_is_recorded_as_a_recipe_would_give_it(annotation: object, value: object, read: object) -> None:
    assert repr(as_read(annotation, value)) == repr(read)


def test_every_listed_component_loads_under_its_name() -> None:
    for kind in registry.PACKAGES:
        for name in registry.names(kind):
            cls = registry.get(kind, name)
            assert getattr(cls, "kind", None) == kind
            assert registry.entries(kind)[name].summary, f"{kind} {name}: its docstring needs a first line"


def test_options_must_be_keyword_only_and_annotated() -> None:
    with pytest.raises(RegistryError, match="'dim' must be keyword-only and annotated"):

        @tokkit.register("quantizer", "positional-for-a-test")
        class Positional(Quantizer):
            def __init__(self, dim: int = 3):
                super().__init__()

    with pytest.raises(RegistryError, match="'anything' must be keyword-only and annotated"):

        @tokkit.register("quantizer", "swallows-for-a-test")
        class Swallows(Quantizer):
            def __init__(self, **anything: int):
                super().__init__()


def test_a_name_is_given_once() -> None:
    with pytest.raises(RegistryError, match="quantizer 'fsq' is registered already"):
        registry.get("quantizer", "fsq")

        @tokkit.register("quantizer", "fsq")
        class Mine(Quantizer):
            def __init__(self, *, dim: int = 3):
                super().__init__()


def test_a_built_component_knows_how_to_be_built_again() -> None:
    inner = tokkit.build("quantizer", "fsq", levels=(4, 3))
    outer = tokkit.build("quantizer", "nested", quantizer=inner, num_tokens=4)
    spec = registry.spec_of(outer)
    assert spec.to_dict() == {"name": "nested", "quantizer": {"name": "fsq", "levels": (4, 3)}, "num_tokens": 4}
    again = spec.build()
    assert again.quantizer is not inner
    assert again.codebook_sizes == (12,)
    for twin in (copy.deepcopy(outer), pickle.loads(pickle.dumps(outer))):
        assert registry.spec_of(twin) == spec


def test_an_unregistered_component_has_no_recipe() -> None:
    class Mine(Quantizer):
        pass

    with pytest.raises(RegistryError, match="Mine is not registered"):
        registry.spec_of(Mine())
