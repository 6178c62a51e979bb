"""Yaml to checked values. Every problem is reported, each as `file:line:col: path: message`; knows no section of a recipe.

The schema is the signature of what will be called: a frozen dataclass for a section, the registered class for a component.
pydantic checks the plain values (strictly: "8" is not 8); the yaml node tree gives the positions.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import yaml

from tokkit import registry
from tokkit.errors import RecipeError, RegistryError
from tokkit.registry import Spec, suggest


@dataclass(frozen=True)
class Where:
    """A place in a yaml file, or `command line`."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Node:
    """A yaml value and where it stands. `value` is a dict of nodes, a list of nodes, or a scalar."""

    value: Any
    where: Where
    key: Where | None = None

    def plain(self) -> Any:
        """The value without positions; lists become tuples, which is what options are annotated with."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return tuple(node.plain() for node in self.value)
        return self.value


@dataclass
class Problems:
    """Collects what is wrong, sorted by place at the end."""

    found: list[tuple[Where, str]] = field(default_factory=list)

    def add(self, where: Where, path: str, message: str) -> None:
        self.found.append((where, f"{where}: {path}: {message}" if path else f"{where}: {message}"))

    def raise_if_any(self) -> None:
        if self.found:
            by_place = sorted(self.found, key=lambda item: (item[0].file, item[0].line, item[0].column))
            raise RecipeError([text for _, text in by_place])


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-4` as a string; people who write learning rates do not. Aliases, which can loop or explode, are refused."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "yaml aliases are not read; use `base:`", self.peek_event().start_mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def read(path: str | Path, problems: Problems) -> Node:
    """Parse a yaml file; `base: other.yaml` (beside it, one level deep) supplies what the file does not say.

    Raises:
        RecipeError: the file cannot be read or is not yaml.
    """
    path = Path(path)
    node = _read_one(path, problems)
    base = node.value.pop("base", None)
    if base is None:
        return node
    if not isinstance(base.value, str):
        raise RecipeError([f"{base.where}: base: expected the path of a recipe, got {_describe(base)}"])
    below = _read_one(path.parent / base.value, problems, asked=base.where)
    deeper = below.value.pop("base", None)
    if deeper is not None:
        problems.add(deeper.where, "base", f"a base cannot have a base itself, and {base.value} does")
    return _merge_members(below, node)


def merge(below: Node, above: Node) -> Node:
    """`above` over `below`: mappings join key by key, everything else is replaced, a component of another name replaces the whole."""
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    below_name, above_name = (node.value.get("name") for node in (below, above))
    if above_name is not None and below_name is not None and above_name.value != below_name.value:
        return above
    return _merge_members(below, above)


def _merge_members(below: Node, above: Node) -> Node:
    joined = dict(below.value)
    for key, node in above.value.items():
        joined[key] = merge(joined[key], node) if key in joined else node
    return dataclasses.replace(above, value=joined)


def override(node: Node, assignments: Iterable[str], problems: Problems) -> Node:
    """Apply `train.lr=3e-4`, `quantizer.name=vq` or `losses.0.weight=2`; the values are yaml."""
    where = Where("command line")
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path:
            problems.add(where, text, "expected key.sub=value")
            continue
        try:
            leaf = _to_node(yaml.compose(value, Loader=_Loader), where.file, "", problems) if value else Node(None, where)
        except yaml.YAMLError:
            problems.add(where, path, f"cannot read {value!r} as a yaml value")
            continue
        node = _assign(node, path.split("."), _move(leaf, where), where, path, problems)
    return node


def check(node: Node, target: type, path: str, problems: Problems, places: dict[str, Where]) -> dict[str, Any] | None:
    """Check a mapping against the constructor of `target`.

    Args:
        node: the mapping.
        target: a dataclass, or a registered component class.
        path: the path of the mapping in its file, for messages.
        problems: receives everything that is wrong.
        places: receives path -> place of every value.

    Returns:
        Constructor options, components as `Spec`; None when there was a problem.
    """
    before = len(problems.found)
    parameters = registry.signature(target).parameters
    options: dict[str, Any] = {}
    for key, child in node.value.items():
        if key in parameters:
            child_path = f"{path}.{key}" if path else key
            options[key] = _value(parameters[key].annotation, child, child_path, problems, places)
        else:
            problems.add(child.key or child.where, f"{path}.{key}" if path else key, f"unknown field{suggest(key, parameters)}")
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in node.value:
            problems.add(node.where, f"{path}.{name}" if path else name, "required, missing")
    return options if len(problems.found) == before else None


def _value(annotation: Any, node: Node, path: str, problems: Problems, places: dict[str, Where]) -> Any:
    places[path] = node.where
    annotation, optional = _without_none(annotation)
    if node.value is None and optional:
        return None
    item = _item_type(annotation)
    if item is not None and _is_structured(item):
        if not isinstance(node.value, list):
            problems.add(node.where, path, f"expected a list, got {_describe(node)}")
            return None
        return tuple(_value(item, child, f"{path}.{i}", problems, places) for i, child in enumerate(node.value))
    if dataclasses.is_dataclass(annotation):
        if not isinstance(node.value, dict):
            problems.add(node.where, path, f"expected a mapping, got {_describe(node)}")
            return None
        options = check(node, typing.cast(type, annotation), path, problems, places)
        return None if options is None else _section(annotation, options, node.where, path, problems)
    if _is_structured(annotation):
        return _component(annotation.kind, node, path, problems, places)
    return _plain(annotation, node, path, problems)


def _section(section: Any, options: dict[str, Any], where: Where, path: str, problems: Problems) -> Any:
    try:
        return section(**options)
    except ValueError as error:
        problems.add(where, path, str(error))
        return None


def _component(kind: str, node: Node, path: str, problems: Problems, places: dict[str, Where]) -> Spec | None:
    if isinstance(node.value, str):
        node = dataclasses.replace(node, value={"name": Node(node.value, node.where)})
    if not isinstance(node.value, dict):
        problems.add(node.where, path, f"expected the name of a {kind} or a mapping with `name`, got {_describe(node)}")
        return None
    name = node.value.get("name")
    if name is None or not isinstance(name.value, str):
        problems.add((name or node).where, f"{path}.name", f"required: the name of a {kind}, one of {', '.join(registry.names(kind))}")
        return None
    try:
        cls = registry.get(kind, name.value)
    except RegistryError as error:
        problems.add(name.where, f"{path}.name", str(error))
        return None
    rest = dataclasses.replace(node, value={key: child for key, child in node.value.items() if key != "name"})
    options = check(rest, cls, path, problems, places)
    return None if options is None else Spec(kind, name.value, options)


def _plain(annotation: Any, node: Node, path: str, problems: Problems) -> Any:
    try:
        return _adapter(annotation).validate_python(node.plain())
    except pydantic.ValidationError as error:
        for detail in error.errors():
            place, sub = _locate(node, path, detail["loc"])
            given = detail["input"]
            hint = ""
            if detail["type"] == "literal_error" and isinstance(given, str):
                hint = suggest(given, [str(choice) for choice in typing.get_args(annotation)])
            message = (detail["msg"][0].lower() + detail["msg"][1:]).replace("valid tuple", "valid list")
            problems.add(place, sub, f"{message}, got {given!r}{hint}")
        return None


@functools.cache
def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True))


def _locate(node: Node, path: str, location: tuple[int | str, ...]) -> tuple[Where, str]:
    """Follow pydantic's location as far as it names members of the value (union branches do not)."""
    for step in location:
        members = dict(enumerate(node.value)) if isinstance(node.value, list) else node.value
        if not isinstance(members, dict) or step not in members:
            continue
        node = members[step]
        path = f"{path}.{step}"
    return node.where, path


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        if len(members) < len(typing.get_args(annotation)):
            return functools.reduce(lambda a, b: a | b, members), True
    return annotation, False


def _item_type(annotation: Any) -> Any:
    arguments = typing.get_args(annotation)
    return arguments[0] if typing.get_origin(annotation) is tuple and arguments[1:] == (...,) else None


def _is_structured(annotation: Any) -> bool:
    return isinstance(annotation, type) and (dataclasses.is_dataclass(annotation) or getattr(annotation, "kind", None) in registry.PACKAGES)


def _describe(node: Node) -> str:
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(node.value), repr(node.value))


def _read_one(path: Path, problems: Problems, asked: Where | None = None) -> Node:
    place = f"{asked}: base: " if asked else ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{place}{path}: cannot read the recipe: {getattr(error, 'strerror', None) or error}"]) from error
    try:
        tree = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise RecipeError([f"{where}: not yaml: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise RecipeError([f"{path}: not yaml: {error}"]) from error
    node = _to_node(tree, str(path), "", problems)
    if not isinstance(node.value, dict):
        raise RecipeError([f"{node.where}: a recipe is a mapping, and this is {_describe(node)}"])
    return node


def _to_node(tree: yaml.Node | None, file: str, path: str, problems: Problems, key: Where | None = None) -> Node:
    if tree is None:
        return Node({}, Where(file, 1, 1))
    where = Where(file, tree.start_mark.line + 1, tree.start_mark.column + 1)
    if isinstance(tree, yaml.SequenceNode):
        return Node([_to_node(child, file, f"{path}.{i}".lstrip("."), problems) for i, child in enumerate(tree.value)], where, key)
    if isinstance(tree, yaml.MappingNode):
        members: dict[str, Node] = {}
        for key_node, child in tree.value:
            name = str(key_node.value)
            at = Where(file, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            child_path = f"{path}.{name}".lstrip(".")
            if name in members:
                problems.add(at, child_path, "given twice")
            else:
                members[name] = _to_node(child, file, child_path, problems, at)
        return Node(members, where, key)
    try:
        scalar = _Loader("").construct_object(tree)
    except (yaml.YAMLError, ValueError) as error:
        problems.add(where, path, f"cannot read {tree.value!r}: {error}")
        scalar = None
    return Node(scalar, where, key)


def _move(node: Node, where: Where) -> Node:
    """The same value, said to stand at `where`."""
    value = node.value
    if isinstance(value, dict):
        value = {key: _move(child, where) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_move(child, where) for child in value]
    return Node(value, where, where)


def _assign(node: Node, keys: list[str], leaf: Node, where: Where, path: str, problems: Problems) -> Node:
    if not keys:
        return leaf
    key, rest = keys[0], keys[1:]
    if isinstance(node.value, list):
        if not key.isdigit() or int(key) >= len(node.value):
            problems.add(where, path, f"{key!r} is not an index below {len(node.value)}")
            return node
        items = list(node.value)
        items[int(key)] = _assign(items[int(key)], rest, leaf, where, path, problems)
        return dataclasses.replace(node, value=items)
    members = node.value if isinstance(node.value, dict) else {}
    if isinstance(node.value, str):
        members = {"name": Node(node.value, node.where)}
    if key == "name" and path != "name" and not rest and "name" in members and members["name"].value != leaf.value:
        return dataclasses.replace(node, value={"name": leaf})  # another component, with options of its own; not so a recipe's own name
    child = members.get(key, Node({}, where, where))
    return dataclasses.replace(node, value={**members, key: _assign(child, rest, leaf, where, path, problems)})
