"""`takeda prices`: what an hour costs, as plans reckon it, and where the figures come from."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.cli.terminal import print_columns
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.instances import Instance
    from snakemake_executor_takeda.routing.prices import PriceBook, Source

_PARTS = {
    "ec2": "EC2 On-Demand",
    "spot": "EC2 Spot",
    "fargate": "Fargate",
    "healthomics": "HealthOmics",
    "shapes": "instance types",
}
_FARGATE, _OMICS = "fargate", "omics"


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "prices",
        help="what an hour of an instance costs, and how old the figures are",
        description="The prices that plans reckon with. The package has those of a few Regions; "
        "`refresh` asks AWS for today's.",
        epilog="example: takeda prices show --region eu-central-1 c7i r7i.4xlarge fargate",
    )
    parser.set_defaults(run=_run_show, words=[], region=None, json=False)
    commands = parser.add_subparsers(dest="prices_command", metavar="COMMAND")
    show = commands.add_parser(
        "show",
        help="prices, their date and source; no service is asked",
        description="Prices in USD an hour, their date and source. No service is asked.",
        epilog="example: takeda prices show --region eu-central-1 c7i r7i.4xlarge fargate omics",
    )
    show.add_argument(
        "words",
        nargs="*",
        metavar="TYPE",
        help="instance types or families (c7i, c7i.4xlarge, optimal), `fargate`, `omics`; without any "
        "the sources",
    )
    show.add_argument("--json", action="store_true", help="as a JSON object")
    show.set_defaults(run=_run_show)
    refresh = commands.add_parser(
        "refresh",
        help="ask AWS for a Region's types and prices, and keep them for the plans of this user",
        description="Asks the Pricing API, EC2's instance types and the Spot history for a Region, and "
        "writes the answers to the user's cache, from where plans take them. Exit status 1 where the "
        "credentials do not allow one of the calls; what the others answer is kept.",
        epilog="example: takeda prices refresh --region eu-central-1",
    )
    refresh.set_defaults(run=_run_refresh)
    for command in (show, refresh):
        command.add_argument(
            "--region", help="AWS Region; without it that of AWS_REGION or of the profile"
        )


def _run_refresh(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.cli.prices_refresh import refresh

    region = args.region or _usual_region()
    if region is None:
        raise TakedaError(
            "no Region: name one, as in `takeda prices refresh --region eu-central-1`"
        )
    done = refresh(region)
    for part, count in done.counts.items():
        print(f"{_PARTS[part]}: {count} {'types' if part != 'fargate' else 'prices'}")
    for part in done.absent:
        print(f"{_PARTS[part]}: AWS has none for {region}")
    print(f"written to {done.file}")
    for sentence in done.denied:
        print(f"takeda: {sentence}", file=sys.stderr)
    return 1 if done.denied else 0


def _run_show(args: argparse.Namespace) -> int:
    from snakemake_executor_takeda.routing.prices import packaged_regions, price_book

    region = args.region or _usual_region()
    if region is None and args.words:
        region = packaged_regions()[0]
        print(f"takeda: no Region is set, so this is {region}", file=sys.stderr)
    books = [price_book(one) for one in ([region] if region else packaged_regions())]
    if not any((books[0].ec2, books[0].fargate, books[0].healthomics)):
        raise TakedaError(_no_prices(books[0].region, packaged_regions()))
    if args.words:
        rows = _asked(args.words, books[0])
        if args.json:
            print(json.dumps({"region": books[0].region, "prices": rows}, indent=2))
        else:
            _show_rows(rows, books[0])
        return 0
    if args.json:
        print(json.dumps({"regions": {book.region: _sources(book) for book in books}}, indent=2))
        return 0
    for book in books:
        _show_sources(book)
    return 0


def _usual_region() -> str | None:
    """What AWS's own tools would take."""
    import botocore.session
    from botocore.exceptions import ProfileNotFound

    try:
        region: str | None = botocore.session.get_session().get_config_variable("region")
    except ProfileNotFound as error:
        raise TakedaError(f"{error}: set AWS_PROFILE to a profile of ~/.aws/config") from error
    return region


def _no_prices(region: str, known: Sequence[str]) -> str:
    from snakemake_executor_takeda.nearest import nearest

    near = nearest(region, known, cutoff=0.9)
    hint = f"did you mean {near}?" if near else f"there are those of {', '.join(known)}."
    return (
        f"no prices of {region} are known: {hint} `takeda prices refresh --region {region}` asks AWS "
        "for them"
    )


def _sources(book: PriceBook) -> dict[str, dict[str, Any] | None]:
    """Part → its date, source and number of prices; None for what is not known."""

    def told(source: Source | None, prices: int, of: int | None = None) -> dict[str, Any] | None:
        if source is None:
            return None
        return {"date": source.date, "source": source.text, "prices": prices, "types": of or prices}

    on_demand = book.on_demand or {}
    priced = sum(price is not None for price in on_demand.values())
    omics = book.healthomics
    table = book.instances
    return {
        "ec2": told(book.ec2, priced, len(on_demand)),
        "spot": told(book.spot_source, len(book.spot or {})),
        "fargate": told(book.fargate.source, 2) if book.fargate else None,
        "healthomics": told(omics.source, len(omics.usd_per_hour)) if omics else None,
        "shapes": {
            "date": table.date,
            "source": table.source,
            "prices": 0,
            "types": len(table.by_name),
        },
    }


def _show_sources(book: PriceBook) -> None:
    print(f"{book.region}, USD an hour")
    for part, told in _sources(book).items():
        if told is None and part == "spot":
            if book.ec2:
                share = f"{book.spot_share:.0%} of On-Demand, Fargate {book.fargate_spot_share:.0%}"
                print(f"  {_PARTS[part]}: an estimate, {share}")
        elif told is None:
            print(
                f"  {_PARTS[part]}: not known; `takeda prices refresh --region {book.region}` asks AWS"
            )
        else:
            known = f"{told['prices']} of {told['types']} types, " if part == "ec2" else ""
            print(f"  {_PARTS[part]}: {known}as of {told['date']}: {told['source']}")
    print()


def _asked(words: Sequence[str], book: PriceBook) -> list[dict[str, Any]]:
    """A row for each type that the words mean. Raises TakedaError for a word that means nothing."""
    rows = []
    for word in words:
        if word == _FARGATE:
            rows += _fargate_rows(book)
        elif word.partition(".")[0] == _OMICS:
            rows += _omics_rows(word, book)
        else:
            meant = book.instances.meant((word,))
            if meant.unknown:
                raise TakedaError(_unknown(word, book))
            rows += [_row(one, book) for one in meant.instances]
    return rows


def _row(one: Instance, book: PriceBook) -> dict[str, Any]:
    spot = book.spot_usd(one.name)
    return {
        "type": one.name,
        "vcpus": one.vcpus,
        "memory_mib": one.memory_mib,
        "gpus": one.gpus,
        "gpu_model": one.gpu_model or None,
        "efa": one.efa_interfaces > 0,
        "architecture": one.architecture,
        "offered": book.offers(one.name),
        "on_demand_usd_per_hour": book.on_demand_usd(one.name),
        "spot_usd_per_hour": spot.usd_per_hour if spot else None,
        "spot_is_estimate": spot.is_estimate if spot else None,
    }


def _omics_rows(word: str, book: PriceBook) -> list[dict[str, Any]]:
    from snakemake_executor_takeda.routing.instances_serverless import omics_in

    here = [one.shape for one in omics_in(book.region)]
    asked = [one for one in here if one.name == word or f"{one.name}.".startswith(f"{word}.")]
    if not asked:
        raise TakedaError(_unknown(word, book, [one.name for one in here]))
    prices = book.healthomics.usd_per_hour if book.healthomics else {}
    return [
        {**_row(one, book), "offered": True, "on_demand_usd_per_hour": prices.get(one.name)}
        for one in asked
    ]


def _fargate_rows(book: PriceBook) -> list[dict[str, Any]]:
    prices = book.fargate
    if prices is None:
        raise TakedaError(
            f"no prices of Fargate in {book.region} are known: `takeda prices refresh --region "
            f"{book.region}` asks AWS"
        )
    both = (
        ("x86_64", "vCPU", prices.usd_per_vcpu_hour),
        ("x86_64", "GiB", prices.usd_per_gib_hour),
        ("arm64", "vCPU", prices.arm64_usd_per_vcpu_hour),
        ("arm64", "GiB", prices.arm64_usd_per_gib_hour),
    )
    return [
        {
            "type": f"fargate {unit}",
            "vcpus": int(unit == "vCPU"),
            "memory_mib": 1024 * (unit == "GiB"),
            "gpus": 0,
            "gpu_model": None,
            "efa": False,
            "architecture": architecture,
            "offered": True,
            "on_demand_usd_per_hour": price,
            "spot_usd_per_hour": price * book.fargate_spot_share,
            "spot_is_estimate": True,
        }
        for architecture, unit, price in both
        if price is not None
    ]


def _unknown(word: str, book: PriceBook, names: Sequence[str] = ()) -> str:
    from snakemake_executor_takeda.nearest import nearest
    from snakemake_executor_takeda.routing.instances import BUNDLES

    known = names or [*book.instances.by_name, *book.instances.families, *BUNDLES, _FARGATE, _OMICS]
    near = nearest(word, known)
    hint = f"did you mean {near}? " if near else ""
    return (
        f"{word!r} is neither an instance type nor a family that is known: {hint}"
        f"`takeda prices refresh --region {book.region}` asks AWS for new ones"
    )


def _show_rows(rows: Sequence[dict[str, Any]], book: PriceBook) -> None:
    print_columns(
        [
            ("type", "vCPUs", "GiB", "GPUs", "EFA", "processor", "On-Demand $/h", "Spot $/h"),
            *map(_cells, rows),
        ]
    )
    dates = [source.date for source in (book.ec2, book.spot_source) if source]
    print(f"\n{book.region}, EC2 as of {' and '.join(dates) or 'never'}; ~ is an estimate")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    gpus = f"{row['gpus']} × {row['gpu_model']}" if row["gpus"] else "-"
    full, spot = row["on_demand_usd_per_hour"], row["spot_usd_per_hour"]
    known = "not known" if row["offered"] else "not offered"
    return (
        row["type"],
        str(row["vcpus"] or "-"),
        f"{row['memory_mib'] / 1024:g}" if row["memory_mib"] else "-",
        gpus,
        "yes" if row["efa"] else "-",
        row["architecture"],
        known if full is None else f"{full:.6g}",
        "-" if spot is None else f"{'~' if row['spot_is_estimate'] else ''}{spot:.4g}",
    )
