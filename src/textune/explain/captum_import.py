"""captum's integrated gradients without the rest of captum, which imports matplotlib: a second of CPU time."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

_PACKAGES = ("captum", "captum.attr")


def import_integrated_gradients() -> Any:
    """Return the class `captum.attr.IntegratedGradients`.

    Its module is imported below empty packages, which are taken away again, so that a later `import captum` is whole.
    """
    spec = importlib.util.find_spec("captum")
    if "captum" in sys.modules or spec is None or not spec.submodule_search_locations:
        from captum.attr import IntegratedGradients

        return IntegratedGradients
    if _found:
        return _found[0]
    folder = next(iter(spec.submodule_search_locations))
    for name in _PACKAGES:
        package = ModuleType(name)
        package.__path__ = ["/".join((folder, *name.split(".")[1:]))]
        sys.modules[name] = package
    try:
        from captum.attr._core.integrated_gradients import IntegratedGradients

        _found.append(IntegratedGradients)
    except ImportError:  # another version keeps it elsewhere
        pass
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "captum"]:
            del sys.modules[name]
    if not _found:
        from captum.attr import IntegratedGradients

        _found.append(IntegratedGradients)
    return _found[0]


_found: list[Any] = []
