"""Runs a recipe of this folder with one command.

    python recipes/run.py NAME [--original] [--data FOLDER] [--backbone FOLDER] [--offline] [key=value ...]
    python recipes/run.py technique-gallery [TECHNIQUE ...]

Without a word about places the backbone and the data are those that the YAML names, from the hub or its local cache.
--data takes the data of a folder (ag_news/, imdb/, amazon_reviews/ with train and test in each), --backbone a model's
folder, --offline what comes with the package. Whatever is put in the place of something else is told. The command
that is run in the end is shown, and is `textune train`, or `textune sweep`, with a YAML file of settings.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from textune.bundle import has_begun, run_path
from textune.config import build_config, load_settings, merge_settings, parse_settings
from textune.errors import ConfigError, DataError, TextuneError, address_shell, suggest
from textune.files import read_json, write_text_atomically

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))  # of a script, only its own folder is there
from recipes.answers import ANSWERS, write_answers, write_stand_ins  # noqa: E402

NAMES = tuple(sorted(p.name for p in HERE.iterdir() if (p / "README.md").is_file()))
QUERY = "q_lin"
"""The one layer that two of the write-ups adapt, by DistilBERT's name for it."""
_ROWS, _TEST_ROWS = 2_000, 1_000
"""So many rows are taken of embedded data where the recipe names no sample: minutes, not hours."""


@dataclass(frozen=True)
class Stand:
    """Where else the rows of a hub data set are. local: files under --data. same: whether the rows are of that set."""

    local: Mapping[str, str]
    note: str
    embedded: str = "embedded:rotten_tomatoes"
    same: bool = False


STANDS = {
    "hub:fancyzhx/ag_news": Stand(
        {"data": "ag_news/train.csv", "test": "ag_news/test.csv", "test_text": "title,description"},
        "AG News in the folder's own number of rows",
    ),
    "hub:stanfordnlp/imdb": Stand(
        {"data": "imdb/train.parquet", "test": "imdb/test.parquet"}, "IMDB", "embedded:imdb", same=True
    ),
    "hub:fancyzhx/amazon_polarity": Stand(
        {"data": "amazon_reviews/train.csv", "test": "amazon_reviews/test.csv"},
        "other Amazon reviews, labelled in the same way: figures do not compare with Amazon Polarity's",
    ),
    "hub:mteb/banking77": Stand({"data": "banking77/train.csv", "test": "banking77/test.csv"}, "Banking77", same=True),
}


@dataclass
class Plan:
    """What is run: a YAML file, the words that change it, and what a person must know of the changes."""

    file: Path
    words: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as they are now, without the sweep's own."""
        settings = merge_settings(load_settings(self.file), parse_settings(self.words))
        return {key: value for key, value in settings.items() if key != "sweep"}

    @property
    def command(self) -> list[str]:
        """The words of the textune command."""
        kind = "sweep" if "sweep" in load_settings(self.file) else "train"
        return [kind, str(self.file), *self.words, *self.flags]


def plan_recipe(
    file: Path, *, data: Path | None = None, backbone: str | None = None, offline: bool = False,
    words: Sequence[str] = (), overwrite: bool = False,
) -> Plan:  # fmt: skip
    """Decide where backbone and data come from; raise TextuneError where something named is not there."""
    plan = Plan(file, flags=["--overwrite"] if overwrite else [])
    writes = file.parent.name in ANSWERS
    if data is not None:
        _take_local(plan, data)
    elif offline and not writes:
        words = _take_embedded(plan, words)
    if backbone is not None:
        plan.words.append(f"backbone={backbone}")
    elif offline and plan.settings["backbone"] not in ("minilm", "smollm2-135m"):
        plan.notes.append(f"backbone: the embedded minilm in the place of {plan.settings['backbone']}")
        plan.words.append("backbone=minilm")
    plan.words += words
    if writes:
        _take_answers(plan, stand_in=offline and data is None)
    _rename_targets(plan)
    return plan


def _take_local(plan: Plan, folder: Path) -> None:
    stand = STANDS.get(_data_set(plan.settings))
    if stand is None:
        plan.notes.append(f"--data {folder}: not needed, {plan.settings['data']} comes with the package")
        return
    places = {key: folder / name for key, name in stand.local.items() if key != "test_text"}
    if missing := [str(path) for path in places.values() if not path.is_file()]:
        raise DataError(f"--data {folder}: {missing[0]} is not there", hint="--data names the folder above it")
    plan.notes.append(f"data: {plan.settings['data']} is taken from {folder} ({stand.note})")
    plan.words += [f"{key}={path}" for key, path in places.items()]
    if "test_text" in stand.local:
        plan.words.append(f"test_text={stand.local['test_text']}")


def _take_embedded(plan: Plan, words: Sequence[str]) -> list[str]:
    """Take rows that come with the package; return the person's words but for the samples, which it has obeyed."""
    settings = merge_settings(plan.settings, parse_settings(list(words)))
    stand = STANDS.get(_data_set(settings))
    if stand is None:
        return list(words)
    given = parse_settings(list(words))
    whole = "none" in (given.get("sample"), given.get("test_sample"))
    train, test = (_read_sample(key, settings.get(key), rows)
                   for key, rows in (("sample", _ROWS), ("test_sample", _TEST_ROWS)))  # fmt: skip
    what = (
        "its embedded rows"
        if stand.same
        else "film reviews are used instead, so the scores say nothing about this data"
    )
    rows = "all rows, a third of them for the test" if whole else f"{train:,} + {test:,} rows"
    train, test = (_ROWS, _TEST_ROWS) if whole else (train, test)
    plan.notes.append(f"data: {settings['data']} -> {stand.embedded}, {rows} ({what})")
    plan.words += [
        f"data={stand.embedded}", "test=none", "text=text", "label=label", "labels=0=negative,1=positive",
        f"sample={'none' if whole else train + test}", "test_sample=none",
        f"test_fraction={test / (train + test):.6f}",
    ]  # fmt: skip
    share = build_config({"validation_fraction": settings.get("validation_fraction")}).data.validation_fraction
    plan.words.append(f"validation_fraction={'none' if share is None else round(share * train / (train + test), 6)}")
    obeyed = ("sample=", "test_sample=", "validation_fraction=")
    return [word for word in words if not word.startswith(obeyed)]


def _take_answers(plan: Plan, stand_in: bool) -> None:
    """Write the prompts and answers of a recipe that tunes a model to write, and take those as its data."""
    name, settings = plan.file.parent.name, plan.settings
    answers, folder = ANSWERS[name], Path(settings.get("runs_dir", "runs")) / ".answers"
    train, test = (folder / f"{name}-{part}.jsonl" for part in ("train", "test"))
    if stand_in:
        rows = write_stand_ins(answers, train, test)
        what = f"{answers.stand_in}: film reviews are used instead, so the scores say nothing about this data"
    else:
        rows = (
            write_answers(str(settings["data"]), answers.build, train),
            write_answers(str(settings["test"]), answers.build, test),
        )
        what = f"made of {settings['data']} and {settings['test']}"
    plan.notes.append(f"prompts and answers: {rows[0]:,} + {rows[1]:,} rows, {what}; see {train}")
    plan.words += [f"data={train}", f"test={test}"]


def _read_sample(setting: str, value: Any, by_rule: int) -> int:
    """Return the number of rows of "500" or "first:500"; by the rule where none is set."""
    if value in (None, "none"):
        return by_rule
    how, _, count = str(value).rpartition(":")
    if how not in ("", "first") or not count.isdecimal() or int(count) < 1:
        raise ConfigError(f"{setting}={value}: is not understood", hint="give a number of rows such as 1000, or none")
    return int(count)


def _data_set(settings: Mapping[str, Any]) -> str:
    return str(settings.get("data")).partition("#")[0]


def _rename_targets(plan: Plan) -> None:
    """Names the query layer as the backbone's family does, where the recipe adapts it alone."""
    method, own = plan.settings.get("method"), load_settings(plan.file)["backbone"]
    if not isinstance(method, Mapping) or method.get("targets") != [QUERY] or plan.settings["backbone"] == own:
        return
    from textune.backbones import resolve_backbone

    family = resolve_backbone(plan.settings["backbone"]).family
    if family.guessed:
        raise ConfigError(
            f"which layer {QUERY} is in a model of the type {family.name} is not known",
            hint=f"name it: method.targets=NAME, one of {', '.join(family.linear)}",
        )
    if QUERY not in family.linear:
        plan.notes.append(f"method.targets: the layer that {QUERY} names is {family.linear[0]} in {family.name}")
        plan.words.append(f"method.targets={family.linear[0]}")


def list_files(name: str, original: bool, only: Sequence[str] = ()) -> list[Path]:
    """Return the recipe's YAML files: one, or one for each technique; raise ConfigError for unknown names."""
    if name not in NAMES:
        raise ConfigError(f"there is no recipe '{name}'{suggest(name, NAMES)}", hint=f"recipes: {', '.join(NAMES)}")
    form = "original" if original else "better"
    if original and not any((HERE / name).glob("original*")):
        raise ConfigError(f"{name} has no --original: it repeats no write-up's settings", hint="leave --original out")
    single = HERE / name / f"{form}.yaml"
    if single.is_file():
        if only:
            raise ConfigError(
                f"'{only[0]}' is not understood: {name} is one recipe", hint="settings are written key=value"
            )
        return [single]
    known = {path.stem: path for path in sorted((HERE / name / form).glob("*.yaml"))}
    if unknown := [word for word in only if word not in known]:
        raise ConfigError(
            f"there is no technique '{unknown[0]}'{suggest(unknown[0], known)}", hint=f"techniques: {', '.join(known)}"
        )
    return [known[word] for word in only or known]


def run_one(plan: Plan) -> int:
    """Run the plan as the command line would, in this process; return the exit code."""
    from textune.cli import main as run_textune

    typer.echo(f"$ textune {shlex.join(plan.command)}")
    try:
        run_textune(plan.command)
    except SystemExit as done:
        stand = STANDS.get(_data_set(plan.settings))
        if done.code in (DataError.exit_code, 4) and stand is not None:
            typer.echo(f"  {_what_to_give(stand, plan.settings['backbone'])}", err=True)
        return int(done.code or 0)
    return 0


def _what_to_give(stand: Stand, backbone: str) -> str:
    files = " and ".join(name for key, name in stand.local.items() if key != "test_text")
    model = "" if backbone in ("minilm", "smollm2-135m") else f", --backbone FOLDER with {backbone}"
    return f"without the hub: --data FOLDER with {files}{model}; or --offline for what comes with the package"


def run_gallery(plans: Sequence[Plan]) -> int:
    """Run every technique in a process of its own, so that memory is each one's; print one table.

    Started again, it reads what is finished and goes on with what was stopped.
    """
    from textune.cli.output import print_table
    from textune.process.child import run_child

    rows, failed = [], False
    for plan in plans:
        command = _go_on(plan)
        _asked_file(plan).parent.mkdir(parents=True, exist_ok=True)
        anew = "--overwrite" in plan.flags
        if anew or not has_begun(_folder_of(plan)):
            write_text_atomically(_asked_file(plan), json.dumps(_list_asked(plan)))
        typer.echo(f"$ textune {shlex.join(command)}")
        done = run_child([*command, "--json"])
        failed = failed or done.code != 0
        if anew and done.code not in (0, 130, 143):
            _asked_file(plan).unlink(missing_ok=True)  # what stands there may still be the run of before
        rows.append(_not_run(plan) if done.code else _describe(plan, json.loads(done.output)))
    typer.echo()
    header = ("technique", "trained", "share", "MB on disk", "peak memory", "training", "accuracy (95%)", "ideal for")
    print_table(header, rows, right=(1, 2, 3, 4))
    return 1 if failed else 0


def _go_on(plan: Plan) -> list[str]:
    """Return the command; where the technique's run was begun or finished before, the one that goes on with it."""
    folder, asked = _folder_of(plan), _asked_file(plan)
    if "--overwrite" in plan.flags or not has_begun(folder) or not asked.is_file():
        return plan.command
    return ["resume", str(folder)] if read_json(asked, "what was asked") == _list_asked(plan) else plan.command


def _folder_of(plan: Plan) -> Path:
    config = build_config(plan.settings)
    return run_path(config.runs_dir, str(config.name))


def _asked_file(plan: Plan) -> Path:
    """Beside the run: the run's own settings do not tell what was left open and what was asked for."""
    folder = _folder_of(plan)
    return folder.parent / f".{folder.name}.asked.json"


def _list_asked(plan: Plan) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(json.dumps(build_config(plan.settings).to_dict()))
    return asked


def _describe(plan: Plan, figures: Mapping[str, Any]) -> tuple[str, ...]:
    from textune.methods import methods

    summary, interval = figures["summary"], figures["intervals"]["accuracy"]
    trained, total = figures["trainable_parameters"], figures["total_parameters"]
    method = plan.settings["method"]
    key = method if isinstance(method, str) else str(method["name"])
    return (
        plan.file.stem, f"{trained:,}", f"{trained / total:.2%}", summary["size on disk"].split(" ")[0],
        summary.get("peak memory", "–"), summary["training time"],
        f"{figures['accuracy']:.1%} ({interval['low']:.1%} to {interval['high']:.1%})", methods.get(key).when,
    )  # fmt: skip


def _not_run(plan: Plan) -> tuple[str, ...]:
    return (plan.file.stem, *[""] * 5, "not run: see the error above", "")


def print_recipes() -> None:
    """Print the recipes with the first line of their pages."""
    for name in NAMES:
        title = (HERE / name / "README.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        typer.echo(f"{name:24}{title}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one recipe; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", metavar="NAME", help="; ".join(NAMES))
    parser.add_argument(
        "words", nargs="*", metavar="key=value", help="settings laid over the recipe's; of technique-gallery also names"
    )
    parser.add_argument("--original", action="store_true", help="the write-up's settings; without it textune's own")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder with one folder for each data set")
    parser.add_argument("--backbone", metavar="FOLDER", help="a model's folder, or another hub id")
    parser.add_argument(
        "--offline", action="store_true", help="the embedded backbone and, without --data, embedded data"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run of the recipe")
    given = parser.parse_intermixed_args(arguments)
    if given.name is None:
        print_recipes()
        return 0
    if given.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: later it has no effect
    try:
        with address_shell():
            plans = list(_plan_all(given))
            for note in dict.fromkeys(note for plan in plans for note in plan.notes):
                typer.echo(f"note: {note}")
            single = plans[0].file.stem in ("original", "better")
            return run_one(plans[0]) if single else run_gallery(plans)
    except TextuneError as error:
        typer.echo(f"error: {error}", err=True)
        return error.exit_code


def _plan_all(given: argparse.Namespace) -> Iterator[Plan]:
    settings = [word for word in given.words if "=" in word]
    for file in list_files(given.name, given.original, [word for word in given.words if "=" not in word]):
        yield plan_recipe(
            file, data=given.data, backbone=given.backbone, offline=given.offline, words=settings,
            overwrite=given.overwrite,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
