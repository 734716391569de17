"""`takeda stage`: inputs that are beside the Snakefile, and not in S3 yet, to S3."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import positive
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.staging import Upload

THREADS = 16
LINE_SECONDS = 10
"""Between two lines of progress where there is no terminal."""


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "stage",
        help="upload the inputs of a pipeline that are not in S3 yet",
        description="Find the inputs that `snakemake` with the same arguments would miss in its default "
        "storage, and that are beside the Snakefile, and upload them: many at once, with checksums, and "
        "said again it goes on where it was ended. Nothing in S3 is replaced without --update.",
        usage="takeda stage [--dry-run] [--update] [--threads N] [--json] [ANY ARGUMENTS OF SNAKEMAKE]",
        epilog="example: takeda stage --profile profiles/batch-spot",
        allow_abbrev=False,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be uploaded")
    parser.add_argument(
        "--update",
        action="store_true",
        help="upload those anew, too, that are in S3 with another size, or are older there than here",
    )
    parser.add_argument(
        "--threads", type=positive, default=THREADS, metavar="N", help=f"at once; {THREADS}"
    )
    parser.add_argument("--json", action="store_true", help="what was done, as a JSON object")
    parser.set_defaults(run=_run_stage, takes_snakemakes=True)


def _run_stage(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.backends.aws import client, readable_errors
    from snakemake_executor_takeda.planning.dag import Dag, with_dag
    from snakemake_executor_takeda.staging import Progress, changed_since, upload_all, uploads_of

    def look(dag: Dag) -> tuple[list[Upload], list[Upload]]:
        new = uploads_of(dag.unstaged, replaces=False)
        return list(new), list(uploads_of(dag.in_both, replaces=True))

    uploads, in_both = with_dag(args.snakemakes, look, first=_check_storage)
    s3 = client("s3")
    with readable_errors("s3"):
        changed = changed_since(s3, in_both, args.threads)
    if args.update:
        uploads += changed
    else:
        _say_changed([one.uri for one in changed])
    total = sum(one.size for one in uploads)
    if args.dry_run or not uploads:
        _tell(args, uploads, changed, "would be uploaded" if args.dry_run else "had to be uploaded")
        return 0

    with _shown(len(uploads), total) as moved:
        progress = Progress(moved)
        try:
            with readable_errors("s3"):
                upload_all(s3, uploads, progress, args.threads)
        except KeyboardInterrupt:
            raise TakedaError(
                "stopped; what is uploaded stays. Say the same command to go on"
            ) from None
    for uri in progress.already_there:
        print(f"takeda: {uri} is there by now, and was left as it is", file=sys.stderr)
    facts = {"sent_bytes": progress.sent_bytes, "found_bytes": progress.found_bytes}
    _tell(args, uploads, changed, "uploaded", **facts)
    return 0


def _check_storage(dag: Any) -> None:
    storage = dag.workflow.storage_settings
    if storage.default_storage_provider != "s3":
        raise TakedaError(
            "this pipeline keeps its files on a file system: there is nothing to stage. For S3 set "
            "`default-storage-provider: s3` and `default-storage-prefix: s3://BUCKET/PREFIX` in the profile"
        )


def _say_changed(changed: list[str]) -> None:
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        print(
            f"takeda: {changed[0]}{more} in S3 is not as the file here: --update uploads it anew",
            file=sys.stderr,
        )


def _tell(
    args: argparse.Namespace, uploads: list[Upload], changed: list[Upload], what: str, **facts: int
) -> None:
    from snakemake_executor_takeda.planning.words import size

    total = sum(one.size for one in uploads)
    if args.json:
        told = {
            "files": [
                {"path": str(one.path), "uri": one.uri, "bytes": one.size} for one in uploads
            ],
            "bytes": total,
            "changed": [one.uri for one in changed],
            **facts,
        }
        json.dump(told, sys.stdout, indent=2)
        print()
        return
    if args.dry_run:
        for one in uploads:
            print(f"{one.path} → {one.uri} ({size(one.size)})")
    found = facts.get("found_bytes", 0)
    before = f", {size(found)} of them by an earlier try" if found else ""
    count = f"{len(uploads):,} file{'' if len(uploads) == 1 else 's'}" if uploads else "nothing"
    print(f"{count} {what}{f' ({size(total)}{before})' if uploads else ''}")


@contextmanager
def _shown(files: int, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line now and then elsewhere; gives what is to be told of bytes in S3."""
    from snakemake_executor_takeda.planning.words import size

    if not sys.stderr.isatty():
        done, said = 0, time.monotonic()

        def moved(count: int) -> None:
            nonlocal done, said
            done += count
            if time.monotonic() - said >= LINE_SECONDS:
                said = time.monotonic()
                print(f"takeda: {size(done)} of {size(total)}", file=sys.stderr)

        yield moved
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), DownloadColumn()),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{files:,} files", total=total)
        yield lambda count: bar.update(task, advance=count)
