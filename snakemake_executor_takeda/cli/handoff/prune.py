"""`takeda handoff prune`: old versions of a registered workflow, shown and, when told, removed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import print_columns, whole
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.pruning import Version

PREFIX = "takeda-"


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "prune",
        help="remove old versions of a registered workflow",
        description="Versions that hand-offs have registered on HealthOmics: shows which would go, and "
        "removes them with --yes, or after asking on a terminal. A version with an open run stays.",
        epilog="example: takeda handoff prune call_variants --keep 3 --yes",
    )
    parser.add_argument(
        "name", metavar="NAME", help="the workflow's name, with or without takeda- before it"
    )
    parser.add_argument(
        "--keep", type=_keep, required=True, metavar="N", help="how many of the newest stay"
    )
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    parser.add_argument("--json", action="store_true", help="as a JSON object; never asks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from botocore.exceptions import ClientError

    from snakemake_executor_takeda.backends import aws
    from snakemake_executor_takeda.backends.healthomics import pruning

    name = args.name if args.name.startswith(PREFIX) else f"{PREFIX}{args.name}"
    try:
        with aws.readable_errors("HealthOmics"):
            omics = aws.client("omics")
            versions = pruning.versions_of(omics, name)
            if not versions:
                raise TakedaError(
                    f"no hand-off has registered a workflow {name} here; "
                    "`aws omics list-workflows --type PRIVATE` shows what there is"
                )
            going = pruning.prunable(versions, args.keep)
            if not args.json:
                _show(versions, going)
            told = args.yes or (not args.json and bool(going) and _asked(len(going)))
            removed = going if told else []
            for version in removed:
                pruning.remove(omics, version)
    except ClientError as error:
        raise TakedaError(
            f"HealthOmics refuses: {aws.error_code(error)}: {aws.error_message(error)}"
        ) from error
    if args.json:
        print(json.dumps(_facts(name, versions, going, removed), indent=2))
    elif removed:
        print(f"removed {len(removed)} versions")
    elif going:
        print(f"nothing is removed; {len(going)} versions would be with --yes")
    else:
        print("nothing to remove")
    return 0


def _keep(text: str) -> int:
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: keep at least 1")
    return number


def _asked(count: int) -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input(f"remove these {count} versions? [y/N] ").strip().lower() in ("y", "yes")


def _show(versions: Sequence[Version], going: Sequence[Version]) -> None:
    rows = [("version", "workflow", "created", "status", "")]
    for one in sorted(versions, key=lambda one: one.created, reverse=True):
        word = "goes" if one in going else ("in use" if one.in_use else "stays")
        created = one.created.isoformat(timespec="seconds")
        rows.append((one.name, one.workflow_id, created, one.status, word))
    print_columns(rows)


def _facts(
    name: str, versions: Sequence[Version], going: Sequence[Version], removed: Sequence[Version]
) -> dict[str, Any]:
    return {
        "workflow": name,
        "versions": [
            {
                "version": one.name,
                "workflow_id": one.workflow_id,
                "created": one.created.isoformat(timespec="seconds"),
                "status": one.status,
                "in_use": one.in_use,
                "goes": one in going,
                "removed": one in removed,
            }
            for one in versions
        ],
    }
