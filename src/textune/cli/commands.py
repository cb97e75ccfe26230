"""The classes behind the commands: settings as flags, their part of the help, and names that people guess."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, cast

from typer.core import TyperCommand, TyperGroup, TyperOption

from textune.cli.words import Flag, list_settings, translate_words
from textune.errors import ConfigError, suggest

SHOWN = (
    "text",
    "label",
    "test",
    "validation",
    "text_pair",
    "task",
    "method",
    "backbone",
    "epochs",
    "learning_rate",
    "batch_size",
    "max_length",
    "long_text",
    "class_weights",
    "sample",
    "seed",
    "metric",
    "patience",
    "name",
    "runs_dir",
)
"""The settings that matter most, for the help of train."""
ALL_SETTINGS = "'textune settings' lists all of them."

SHELLS = ("bash", "zsh", "fish")

_GUESSES = {
    "fit": "textune train DATA",
    "finetune": "textune train DATA",
    "fine-tune": "textune train DATA",
    "run": "textune train DATA",
    "new": "textune train DATA",
    "eval": "textune evaluate RUN DATA",
    "test": "textune evaluate RUN DATA",
    "score": "textune evaluate RUN DATA",
    "merge": "textune export RUN --to merged",
    "onnx": "textune export RUN --to onnx",
    "convert": "textune export RUN --to onnx",
    "classify": "textune predict RUN TEXT",
    "infer": "textune predict RUN TEXT",
    "inference": "textune predict RUN TEXT",
    "attribute": "textune explain RUN TEXT",
    "why": "textune explain RUN TEXT",
    "interpret": "textune explain RUN TEXT",
    "continue": "textune resume RUN",
    "search": "textune sweep CONFIG.YAML",
    "tune": "textune sweep CONFIG.YAML",
    "hpo": "textune sweep CONFIG.YAML",
    "benchmark": "textune compare DATA methods=lora,head",
    "tokenize": "textune tokens TEXT",
    "models": "textune backbones",
    "info": "textune inspect DATA",
    "show": "textune inspect DATA",
    "check": "textune inspect DATA",
    "estimate": "textune plan DATA",
    "upload": "textune push RUN HUB-ID",
    "publish": "textune push RUN HUB-ID",
    "serve": "textune predict RUN - (answers lines of standard input; there is no server yet)",
    "ui": "textune app",
    "gui": "textune app",
    "web": "textune app",
}
"""Names of other tools' commands -> what does it here."""


class SettingsCommand(TyperCommand):
    """A command whose settings are flags, too."""

    words_are_texts = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put what was typed into the form that the command reads."""
        flags = [
            Flag((*p.opts, *p.secondary_opts), not (p.is_flag or p.count), str(p.metavar or "").startswith("["))
            for p in self.get_params(ctx)
            if isinstance(p, TyperOption)
        ]
        settings = list_settings(self.name or "") if any("=" in a or a.startswith("--") for a in args) else []
        try:
            args = translate_words(args, flags, settings=settings, convert=not self.words_are_texts)
        except ConfigError:
            if not ctx.resilient_parsing:  # what the shell completes is not whole yet
                raise
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, and the settings below them."""
        super().format_options(ctx, formatter)
        shown = _describe_shown() if self.name == "train" else []
        with formatter.section("Settings, as --name VALUE or name=VALUE"):
            if shown:
                formatter.write_dl(shown)
                formatter.write_paragraph()
            formatter.write_text(ALL_SETTINGS)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the completions of a flag, settings included."""
        found = super().shell_complete(ctx, incomplete)
        item = type(super().shell_complete(ctx, "--")[0])
        seen = {completion.value for completion in found}
        flags = [] if not incomplete.startswith("-") else [(f"--{n.replace('_', '-')}", h) for n, h in _settings()]
        return found + [item(f, help=h) for f, h in flags if f.startswith(incomplete) and f not in seen]


class TextCommand(SettingsCommand):
    """A command whose words may be texts: key=value is never taken for a flag."""

    words_are_texts = True


class CommandGroup(TyperGroup):
    """All commands; a name of another tool's command is answered with the one that does it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Install or show the completion of the shell that is named; without a name, typer finds it out."""
        from typer.completion import install_callback, show_callback

        callbacks = {"--install-completion": install_callback, "--show-completion": show_callback}
        callback = callbacks.get(args[0]) if args else None
        if callback is not None and len(args) > 1:
            if args[1] not in SHELLS:
                raise ConfigError(f"{args[0]} {args[1]}: not one of {', '.join(SHELLS)}")
            callback(ctx, cast(Any, None), args[1])
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is meant; raise ConfigError naming it if it has another name."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            visible = [key for key, command in self.commands.items() if not command.hidden]
            if Path(name).exists():
                raise ConfigError(f"'{name}' is no command", hint=f"to train on it: textune train {shlex.quote(name)}")
            if name.lower() in _GUESSES:
                raise ConfigError(f"no command '{name}': use {_GUESSES[name.lower()]}")
            raise ConfigError(f"no command '{name}'{suggest(name, visible)}", hint="textune --help lists the commands")
        return super().resolve_command(ctx, args)


def _settings() -> list[tuple[str, str]]:
    from textune.config import known_settings

    return list(known_settings().items())


def _describe_shown() -> list[tuple[str, str]]:
    """Return name and help of the settings that matter most, with allowed values and defaults."""
    from textune.cli.catalogue import describe_settings

    by_name = {name: (text, default) for name, default, text in describe_settings()}
    lines = []
    for name in SHOWN:
        text, default = by_name[name]
        lines.append((f"--{name.replace('_', '-')}", text if "default" in text else f"{text} [default: {default}]"))
    return lines
