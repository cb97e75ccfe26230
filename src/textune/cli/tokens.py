"""`textune tokens`."""

from __future__ import annotations

import typer

from textune.cli.output import JSON_HELP, gather_settings, print_json, print_sentences, print_table


def tokens(
    text: str = typer.Argument(..., metavar="TEXT"),
    settings: list[str] = typer.Argument(
        None, metavar="[backbone=...]", help="Model of the tokenizer; also max_length= and long_text=."
    ),
    json_output: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Show a text's tokens and ids, as the model reads them."""
    from textune.backbones import resolve_backbone
    from textune.config import build_used
    from textune.config.defaults import choose_backbone, choose_long_text, choose_max_length
    from textune.errors import DataError
    from textune.methods import check_length
    from textune.printable import count
    from textune.tokens import encode_texts, load_tokenizer

    config = build_used("tokens", gather_settings(settings or [], command="tokens"))
    if not text.strip():
        raise DataError("the text is empty")
    backbone = resolve_backbone(choose_backbone(config), trust=config.model.trust)
    check_length(backbone, config.tokens.max_length)
    tokenizer = load_tokenizer(backbone.folder)
    encoding = tokenizer.encode(text)
    config, _ = choose_max_length(config, backbone.max_positions)
    config, long_text, _ = choose_long_text(config)
    length = config.tokens.max_length or 0
    encoded = encode_texts(tokenizer, [text], None, length, long_text)
    windows = [encoded.ids[a:b].tolist() for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]
    special = [bool(s) for s in encoding.special_tokens_mask]
    if json_output:
        print_json(
            {
                "backbone": backbone.id,
                "tokens": encoding.tokens,
                "ids": encoding.ids,
                "special": special,
                "max_length": length,
                "cut": max(int(encoded.full_lengths[0]) - (encoded.capacity or length), 0),
                "long_text": long_text.form,
                "windows": windows,
            }
        )
        return
    listed = zip(encoding.tokens, encoding.ids, special, strict=True)
    rows = [(token, str(number), "special token" if added else "") for token, number, added in listed]
    print_table(("token", "id", ""), rows, right=(1,))
    form = long_text.describe()
    sentence = f"{count(len(rows), 'token')} of {backbone.id}; texts longer than max_length {length} are {form}"
    print_sentences(["", sentence])
    if long_text.form != "truncate" and len(encoding.ids) > length:
        print_table(
            ("window", "tokens"),
            [(str(i), " ".join(map(str, map(tokenizer.id_to_token, ids)))) for i, ids in enumerate(windows, 1)],
        )
