"""`textune tokens`."""

from __future__ import annotations

import typer

from textune.cli.output import JSON_HELP, gather_settings, print_json, print_table


def tokens(
    text: str = typer.Argument(..., metavar="TEXT"),
    settings: list[str] = typer.Argument(None, metavar="[backbone=...]", help="Whose tokenizer; max_length= cuts."),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Show the tokens of a text and their ids."""
    from textune.backbones import resolve_backbone
    from textune.config import build_config
    from textune.errors import DataError
    from textune.tokens import load_tokenizer

    config = build_config(gather_settings(settings or []))
    if not text.strip():
        raise DataError("the text is empty")
    backbone = resolve_backbone(config.model.backbone, trust=config.model.trust)
    tokenizer = load_tokenizer(backbone.folder)
    encoding = tokenizer.encode(text)
    length = config.tokens.max_length or min(512, backbone.max_positions)
    special = [bool(s) for s in encoding.special_tokens_mask]
    if json_output:
        print_json({"backbone": backbone.id, "tokens": encoding.tokens, "ids": encoding.ids, "special": special,
                    "max_length": length, "cut": max(len(encoding.ids) - length, 0)})  # fmt: skip
        return
    listed = zip(encoding.tokens, encoding.ids, special, strict=True)
    rows = [(token, str(number), "added by the model" if added else "") for token, number, added in listed]
    print_table(("token", "id", ""), rows, right=(1,))
    typer.echo(f"\n{len(rows)} tokens of {backbone.id}; a text is cut at {length}")
