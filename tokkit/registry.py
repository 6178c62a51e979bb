"""Names to components. Knows nothing of torch: listing names reads source files, and a component is imported when it is asked for.

A component is a class registered under a *kind* ("quantizer") and a *name* ("fsq"). The keyword-only, annotated constructor of the class
is the one declaration of its options: recipes are checked against it, and `Spec` (kind, name, options) is how a built component is saved.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from tokkit.bounds import as_read, violated
from tokkit.errors import InputError, RegistryError

PACKAGES = {
    "modality": "modalities",
    "data": "data",
    "encoder": "networks",
    "decoder": "networks",
    "quantizer": "quantizers",
    "loss": "losses",
    "discriminator": "losses",
    "teacher": "losses",
    "metric": "metrics",
    "baseline": "baselines",
    "meshtokens": "meshtokens",
}
"""Kind of component -> the sub-package of tokkit that holds tokkit's own."""

ENTRY_POINTS = "tokkit.components"
"""Third parties announce `quantizer.mine = "package.module:Class"` in this entry point group."""

_SPEC = "_tokkit_spec"
_classes: dict[tuple[str, str], type] = {}
ClassT = TypeVar("ClassT", bound=type)


@dataclass(frozen=True)
class Spec:
    """What is needed to build a component again.

    Attributes:
        kind: such as "quantizer".
        name: such as "fsq".
        options: constructor options; a nested component is a `Spec` itself.
    """

    kind: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        return build(self.kind, self.name, **{key: _map(value, Spec, Spec.build) for key, value in self.options.items()})

    def to_dict(self) -> dict[str, Any]:
        """The plain yaml form: `{name: ..., option: value, ...}`."""
        return {"name": self.name, **{key: _map(value, Spec, Spec.to_dict) for key, value in self.options.items()}}


@dataclass(frozen=True)
class Entry:
    """Where a component lives: `target` is "module:Class"; `summary` is the first line of its docstring."""

    kind: str
    name: str
    target: str
    summary: str


def register(kind: str, name: str) -> Callable[[ClassT], ClassT]:
    """Class decorator: make a component known under `name`.

    Raises:
        RegistryError: the kind is unknown, the name is taken, or a constructor option is not keyword-only and annotated.
    """
    if kind not in PACKAGES:
        raise RegistryError(f"register: no kind {kind!r}{suggest(kind, PACKAGES)}")

    def decorate(cls: ClassT) -> ClassT:
        taken = _classes.get((kind, name))
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise RegistryError(f"{kind} {name!r} is registered already, by {taken.__module__}.{taken.__qualname__}")
        _record_options(cls, kind, name, signature(cls))
        _classes[kind, name] = cls
        return cls

    return decorate


def build(kind: str, name: str, /, **options: Any) -> Any:
    """Build a component from its options.

    Raises:
        RegistryError: unknown kind or name, with the nearest known one.
        InputError: an option is unknown or missing, or its annotation or the constructor refuses a value.
    """
    cls = get(kind, name)
    parameters = signature(cls).parameters
    for option in options:
        if option not in parameters:
            raise InputError(f"{kind} {name!r} has no option {option!r}{suggest(option, parameters)}")
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in options]
    if missing:
        raise InputError(f"{kind} {name!r} needs {', '.join(missing)}")
    for option, value in options.items():
        if said := violated(parameters[option].annotation, value):
            raise InputError(f"{kind} {name!r}: {option} must be {said}, got {value!r}")
    return cls(**options)


def get(kind: str, name: str) -> type:
    """The class registered as `name`, imported now if it was not before."""
    if (kind, name) not in _classes:
        entry = entries(kind).get(name)
        if entry is None:
            raise RegistryError(f"no {kind} {name!r}{suggest(name, names(kind))}; known: {', '.join(names(kind))}")
        module, _, attribute = entry.target.partition(":")
        cls = getattr(importlib.import_module(module), attribute)
        if (kind, name) not in _classes:
            register(kind, name)(cls)
    return _classes[kind, name]


def names(kind: str) -> list[str]:
    """Every known name of a kind, sorted. Imports none of them."""
    return sorted({*entries(kind), *(known for k, known in _classes if k == kind)})


def entries(kind: str) -> dict[str, Entry]:
    """Name -> where it lives, for tokkit's own components (found in the source) and installed third parties' (entry points)."""
    if kind not in PACKAGES:
        raise RegistryError(f"no kind of component {kind!r}{suggest(kind, PACKAGES)}; kinds: {', '.join(PACKAGES)}")
    found = {entry.name: entry for entry in _scan(PACKAGES[kind]) if entry.kind == kind}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        point_kind, _, point_name = point.name.partition(".")
        if point_kind == kind:
            if point_name in found:
                raise RegistryError(f"{kind} {point_name!r} of {point.value} is registered already, as {found[point_name].target}")
            found[point_name] = Entry(kind, point_name, point.value, "")
    for (known_kind, name), cls in _classes.items():
        if known_kind == kind and name not in found:
            summary = (inspect.getdoc(cls) or "").partition("\n")[0]
            found[name] = Entry(kind, name, f"{cls.__module__}:{cls.__qualname__}", summary)
    return found


def spec_of(component: Any) -> Spec:
    """The `Spec` of a built component.

    Raises:
        RegistryError: its class is not registered, so no recipe could name it.
    """
    spec = getattr(component, _SPEC, None)
    if spec is None:
        raise RegistryError(f"{type(component).__name__} is not registered: decorate it with @tokkit.register(kind, name)")
    return spec


def signature(cls: type) -> inspect.Signature:
    """The options of a component: its constructor without `self`, annotations resolved.

    Raises:
        RegistryError: an option is positional, un-annotated or swallowed by `**kwargs`.
    """
    full = inspect.signature(inspect.getattr_static(cls, "__init__"), eval_str=True)
    options = list(full.parameters.values())[1:]
    for option in options:
        if option.kind is not option.KEYWORD_ONLY or option.annotation is option.empty:
            raise RegistryError(f"{cls.__module__}.{cls.__qualname__}: option {option.name!r} must be keyword-only and annotated")
    return full.replace(parameters=options)


def suggest(word: str, known: Iterable[str]) -> str:
    """The ", did you mean ..." part of a message, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _record_options(cls: type, kind: str, name: str, known: inspect.Signature) -> None:
    """Make instances remember the options they were built with (a Module's copies and pickles carry the record along).

    As a recipe would give them: what is saved and read again then has the same record, which fingerprints are made of.
    """
    annotations = {option: parameter.annotation for option, parameter in known.parameters.items()}
    original: Callable[..., None] = inspect.getattr_static(cls, "__init__")

    @functools.wraps(original)
    def init(self: Any, **options: Any) -> None:
        if type(self) is cls:
            recorded = {key: as_read(annotations.get(key), _map(value, object, _spec_or_value)) for key, value in options.items()}
            object.__setattr__(self, _SPEC, Spec(kind, name, recorded))
        original(self, **options)

    type.__setattr__(cls, "__init__", init)


def _spec_or_value(value: Any) -> Any:
    return getattr(value, _SPEC, value)


def _map(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """`function` over a value, or over the members of a tuple or list, that are of `kind`."""
    if isinstance(value, list | tuple):
        return type(value)(_map(item, kind, function) for item in value)
    return function(value) if isinstance(value, kind) else value


@functools.cache
def _scan(package: str) -> tuple[Entry, ...]:
    """Read `@register("kind", "name")` off the source of a sub-package, so that listing costs no import."""
    found = []
    for path in sorted((Path(__file__).parent / package).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef):
                continue
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(func=ast.Name(id="register"), args=[ast.Constant(value=kind), ast.Constant(value=name)]):
                        found.append(Entry(str(kind), str(name), f"tokkit.{package}.{path.stem}:{node.name}", summary))
    return tuple(found)
