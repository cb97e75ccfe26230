"""YAML as settings need it: a key given twice is refused, and names in the data are read as they are written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

MOST_VALUES = 100_000
"""Values of one file, each alias counted with all that it stands for: a few nested ones make billions."""
_TAG = "tag:yaml.org,2002:"
_NUMBERS = (_TAG + "int", _TAG + "float")
_ODD_NUMBER = re.compile(r"[-+]?0[0-9_]|[^:]*:")
"""What YAML 1.1 reads in base 8 or 60: a seed of 042 is 42, as on the command line."""
_GUESSED = tuple(_TAG + kind for kind in ("bool", "int", "float", "timestamp"))


def load_yaml(text: str, as_written: Collection[str] | None = ()) -> Any:
    """Read YAML without running code; raise ValueError, with the line, for what cannot be read.

    as_written: the top-level keys whose values are read as text, letter by letter; None: all keys. A label called no,
    007 or 2024-01-01 keeps its name that way. A null stays None.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)  # refuses control characters
        root = loader.get_single_node()
        if root is None:
            return None
        _check(root, [], {})
        for node in [root] if as_written is None else _find_values(root, as_written):
            _keep_spelling(node)
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _list_children(node: yaml.Node) -> list[yaml.Node]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check(node: yaml.Node, above: list[int], sizes: dict[int, int]) -> int:
    """Return how many values a node stands for; raise ValueError for a key given twice, a circle and too many values.

    above: the nodes that it is in. sizes: of the nodes that were counted.
    """
    import yaml

    line = node.start_mark.line + 1
    if node.tag in _NUMBERS and _ODD_NUMBER.match(node.value):
        node.tag = f"{_TAG}str"
    if id(node) in above:
        raise ValueError(f"line {line}: a value contains itself through an alias")
    if id(node) in sizes:
        return sizes[id(node)]
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            here = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(f"line {here}: '{key.value}' is given twice, first in line {lines[key.value]}")
            lines[key.value] = here
    size = 1 + sum(_check(child, [*above, id(node)], sizes) for child in _list_children(node))
    if size > MOST_VALUES + len(sizes):  # without aliases a file has no more values than nodes
        raise ValueError(f"line {line}: aliases make more than {MOST_VALUES:,} values of it")
    sizes[id(node)] = size
    return size


def _find_values(root: yaml.Node, names: Collection[str]) -> Iterator[yaml.Node]:
    import yaml

    if isinstance(root, yaml.MappingNode):
        yield from (value for key, value in root.value if key.value in names)


def _keep_spelling(node: yaml.Node) -> None:
    if node.tag in _GUESSED:
        node.tag = f"{_TAG}str"
    for child in _list_children(node):
        _keep_spelling(child)
