"""`textune cache`."""

from __future__ import annotations

import typer

from textune.cli.output import JSON_HELP, print_json, print_sentences


def cache(
    clean: bool = typer.Option(False, "--clean", "--clear", help="Delete the whole cache."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Show or clean the cache: tokens, layer outputs, models."""
    from textune import cache as store

    freed = store.clean() if clean else 0
    entries = store.list_entries()
    size = sum(e.bytes for e in entries)
    if json_output:
        print_json(
            {
                "folder": str(store.cache_dir()),
                "entries": len(entries),
                "bytes": size,
                "freed_bytes": freed,
                "largest_bytes": store.LARGEST_BYTES,
            }
        )
        return
    if clean:
        typer.echo(f"{freed / 1e6:.1f} MB freed")
    print_sentences(
        [
            f"{store.cache_dir()}: {len(entries)} entries, {size / 1e6:.1f} MB of at most "
            f"{store.LARGEST_BYTES / 1e9:.0f} GB; the least recently used are deleted first"
        ]
    )
