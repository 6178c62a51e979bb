import copy
import pickle

import pytest

import tokkit
from tokkit import registry
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
