"""`takeda init`: a profile of one's own."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.initializing.slots import SLOTS
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.initializing.asking import Answers
    from snakemake_executor_takeda.initializing.finding import Candidate, Found

FOLDER = Path("profiles/takeda")
_SHOWN = 8
"""Candidates that are listed; any other may be typed."""


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "init",
        help="write a profile: from what is there, or one of the project's",
        description="Write a profile (config.yaml, routing.yaml, README.md) for the Batch queues, Slurm "
        "partitions, HealthOmics role and bucket that are found or named, or one of the project's profiles "
        "with your names in it. On a terminal it asks, and offers what it finds; else, and with --yes, it "
        "takes what it finds, or says which flag is missing. Looks read only; nothing is replaced. '' as a "
        "value leaves it out. Exit status 1 where nothing could be written.",
        epilog="examples: takeda init; takeda init aws --from batch-spot --bucket my-bucket --image REPO:TAG",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=FOLDER, metavar="DIR", help=f"without it {FOLDER}"
    )
    parser.add_argument("--from", dest="profile", metavar="PROFILE", help="one of the project's profiles; "
                        "an unknown name is answered with all of them")  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--no-look", action="store_true", help="ask neither AWS nor Slurm what is there"
    )
    parser.add_argument("--region", help="AWS Region to look in, where it is not AWS's own setting")
    for slot in SLOTS.values():
        metavar = "ARN" if slot.name.endswith("_role") else "NAME"
        parser.add_argument(slot.flag, dest=slot.name, metavar=metavar, help=slot.what)
    parser.add_argument("--dry-run", action="store_true", help="print the files, and write nothing")
    parser.add_argument(
        "--json", action="store_true", help="what was found and written, as a JSON object"
    )
    parser.set_defaults(run=_run_init)


def _run_init(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.initializing import asking, composing, filling
    from snakemake_executor_takeda.initializing.finding import Found, look
    from snakemake_executor_takeda.initializing.writing import check_free, write_all

    flags = {
        name: slot.checked(value)
        for name, slot in SLOTS.items()
        if (value := getattr(args, name)) is not None
    }
    project = filling.files_of(args.profile) if args.profile else {}
    names = dict.fromkeys(project or ("config.yaml", "routing.yaml"))
    check_free(args.folder, {**names, "README.md": None})  # type: ignore[dict-item]

    found = Found() if args.no_look else look(args.region)
    is_asking = sys.stdin.isatty() and sys.stderr.isatty() and not (args.yes or args.json)
    if is_asking:
        _say_found(found)
    answers = asking.Answers(flags, found, _ask if is_asking else None)
    if project:
        wanted = filling.slots_of(project)
        _refuse_others(args.profile, flags, wanted)
        asking.for_profile(answers, found, wanted, Path.cwd())
        if filling.missing_image_digest(project, answers.values.get("image", "")):
            answers.missing = [one for one in answers.missing if one.flag != "--image"]
            answers.missing.append(
                asking.Missing("--image", "this profile has it by digest: REPOSITORY@sha256:DIGITS")
            )
    else:
        asking.for_what_there_is(answers, found, Path.cwd())
    if answers.missing:
        return _tell_missing(args, found, answers)

    values = answers.values
    if args.region:
        values["region"] = args.region
    files = filling.filled(project, values) if project else composing.composed(values, found)
    args.has_s3 = "default-storage-provider" in files["config.yaml"]
    files["README.md"] = _readme(args, project)
    _check(files)
    written = [args.folder / name for name in files]
    if not args.dry_run:
        write_all(args.folder, files)
    _tell(args, found, answers, files, written)
    return 0


def _refuse_others(profile: str, flags: Mapping[str, str], wanted: Mapping[str, bool]) -> None:
    """A flag that changes nothing is a mistake."""
    others = [SLOTS[name].flag for name in flags if name not in wanted and name != "account"]
    if others:
        takes = ", ".join(SLOTS[name].flag for name in wanted)
        raise TakedaError(
            f"{others[0]}: the profile {profile} has no place for it: it takes {takes or 'none'}"
        )


def _check(files: Mapping[str, str]) -> None:
    """What is written is a policy. Raises TakedaError."""
    from snakemake_executor_takeda.assembly import backend_factories
    from snakemake_executor_takeda.routing.policy import load_policy

    models = {name: one.options_model for name, one in backend_factories().items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        try:
            load_policy(Path(folder) / "routing.yaml", models, os.environ)
        except TakedaError as error:
            said = str(error).replace(f"{folder}/", "")
            raise TakedaError(f"nothing was written, as it would be no policy: {said}") from None


def _say_found(found: Found) -> None:
    for name, candidates in found.by_slot.items():
        for one in candidates[:_SHOWN]:
            about = f" ({one.about})" if one.about else ""
            print(f"found: {SLOTS[name].what}: {one.value}{about}", file=sys.stderr)
        if len(candidates) > _SHOWN:
            print(f"found: and {len(candidates) - _SHOWN} more", file=sys.stderr)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print("Enter takes what stands in [], - leaves it out.\n", file=sys.stderr)


def _ask(question: str, default: str, candidates: Sequence[Candidate]) -> str:
    """On the terminal; a number takes what is listed there."""
    if len(candidates) > 1:
        for number, one in enumerate(candidates[:_SHOWN], 1):
            print(f"  {number}  {one.value}  {one.about}".rstrip(), file=sys.stderr)
    shown = f" [{default}]" if default else ""
    print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise TakedaError("no answer came; nothing was written")
    answer = line.strip()
    if answer == "-":
        return ""
    if answer.isdecimal() and 1 <= int(answer) <= len(candidates[:_SHOWN]):
        return candidates[int(answer) - 1].value
    return answer or default


def _readme(args: argparse.Namespace, project: Mapping[str, str]) -> str:
    from snakemake_executor_takeda.initializing.filling import summary_of

    what = (
        f"Made from the profile `{args.profile}`: {summary_of(args.profile)}"
        if project
        else "Made from what there was to run on. Change it as you like: nothing makes it anew."
    )
    commands = "\n".join(_next(args))
    return f"""\
# A profile for takeda

{what}

```sh
{commands}
```

- `config.yaml`: flags of `snakemake`. A pipeline's own needs go there, too: `set-resources`, `set-threads`.
- `routing.yaml`: where jobs go. `takeda policy check {shlex.quote(str(args.folder / "routing.yaml"))}` shows it, `takeda why RULE` tells why.
"""


def _next(args: argparse.Namespace) -> list[str]:
    profile = shlex.quote(str(args.folder))
    staged = [f"takeda stage --profile {profile}"] if args.has_s3 else []
    region = [f"export AWS_REGION={shlex.quote(args.region)}"] if args.region else []
    return [
        *region,
        f"takeda doctor --profile {profile}",
        f"takeda plan --profile {profile}",
        *staged,
        f"snakemake --profile {profile}",
    ]


def _tell_missing(args: argparse.Namespace, found: Found, answers: Answers) -> int:
    if args.json:
        missing = [{"flag": one.flag, "what": one.text} for one in answers.missing]
        _print_json({**_facts(found, answers), "missing": missing, "written": []})
        return 1
    for note in found.notes:
        print(f"takeda: {note}", file=sys.stderr)
    lines = "\n  ".join(map(str, answers.missing))
    print(f"takeda: nothing was written; missing:\n  {lines}", file=sys.stderr)
    return 1


def _tell(
    args: argparse.Namespace,
    found: Found,
    answers: Answers,
    files: Mapping[str, str],
    written: Sequence[Path],
) -> None:
    if args.json:
        _print_json(
            {
                **_facts(found, answers),
                "missing": [],
                "written": [] if args.dry_run else list(map(str, written)),
                "files": dict(files),
                "next": _next(args),
            }
        )
        return
    for note in (*found.notes, *answers.notes):
        print(f"note: {note}", file=sys.stderr)
    if args.dry_run:
        for path, text in zip(written, files.values(), strict=True):
            print(f"# {path}\n{text}")
        print("nothing was written")
        return
    print(f"wrote {', '.join(map(str, written))}\n\nnext:")
    for line in _next(args):
        print(f"  {line}")


def _facts(found: Found, answers: Answers) -> dict[str, Any]:
    return {
        "found": {
            name: [{"value": one.value, "about": one.about} for one in candidates]
            for name, candidates in found.by_slot.items()
        },
        "notes": [*found.notes, *answers.notes],
        "values": {name: value for name, value in answers.values.items() if value},
    }


def _print_json(facts: Mapping[str, Any]) -> None:
    json.dump(facts, sys.stdout, indent=2)
    print()
