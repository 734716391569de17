#!/usr/bin/env python3
"""Makes IAM policies of actions.yaml: all that is checked in here, or one role's for a site.

policies.py                       write controller.json, …, roles.yaml, the doctor's rights.json, and the tables
                                  of README.md
policies.py ROLE NAME=VALUE…      print the policy of one role with these placeholders filled in
policies.py ROLE --for s3,batch   …of these features only
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
DATA: dict[str, Any] = yaml.safe_load((HERE / "actions.yaml").read_text())
ROLES: dict[str, Any] = DATA["roles"]
VERSION = "2012-10-17"
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_BEGIN, _END = "<!-- made by policies.py -->", "<!-- end -->"
_PSEUDO = {"Account": "AWS::AccountId", "Region": "AWS::Region", "Partition": "AWS::Partition"}
"""Placeholders that CloudFormation knows by itself."""
_DEFAULTS = {
    "Prefix": "",
    "JobQueues": "takeda-*",
    "JobDefinition": "none",
    "JobLogGroup": "/aws/batch/job",
    "JobRole": "takeda-job",
    "ExecutionRole": "takeda-execution",
    "OmicsRole": "takeda-healthomics",
    "EventQueue": "takeda-jobs",
    "Runner": "role/takeda-controller",
    "Repositories": "takeda/*",
    "Secrets": "takeda/",
}
RIGHTS = "../../snakemake_executor_takeda/doctor/rights.json"
"""The same for `takeda doctor`, which has the package only."""
_PLACEHOLDERS = {"job": "JobRole", "execution": "ExecutionRole", "healthomics": "OmicsRole"}
"""Of the roles' names."""


def policy(role: str, features: Collection[str] = DATA["features"]) -> dict[str, Any]:
    """The policy document of a role, with placeholders such as `${Bucket}`."""
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Sid": one["sid"],
                "Effect": "Allow",
                "Action": list(one["actions"]),
                "Resource": one["resources"],
                **({"Condition": one["when"]} if "when" in one else {}),
            }
            for one in ROLES[role]["statements"]
            if one["feature"] in features
        ],
    }


def filled(document: Any, values: Mapping[str, str]) -> Any:
    """Placeholders replaced. Raises KeyError for one without a value."""
    if isinstance(document, str):
        return _PLACEHOLDER.sub(lambda found: values[found[1]], document)
    if isinstance(document, Mapping):
        return {key: filled(value, values) for key, value in document.items()}
    if isinstance(document, list):
        return [filled(one, values) for one in document]
    return document


def trust(service: str) -> dict[str, Any]:
    """Who may take a role up: the service, for this account only."""
    condition: dict[str, Any] = {"StringEquals": {"aws:SourceAccount": "${Account}"}}
    if service == "omics.amazonaws.com":
        source = "arn:${Partition}:omics:${Region}:${Account}:*"
        condition["ArnLike"] = {"aws:SourceArn": source}
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sts:AssumeRole",
                "Condition": condition,
            }
        ],
    }


def template() -> dict[str, Any]:
    """CloudFormation: three roles, and a managed policy for whoever runs Snakemake."""
    parameters = {
        name: {
            "Type": "String",
            "Description": _parameter_text(name),
            **({"Default": _DEFAULTS[name]} if name in _DEFAULTS else {}),
        }
        for name in DATA["placeholders"]
        if name not in _PSEUDO
    }
    resources: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for role, facts in ROLES.items():
        document = _substituted(policy(role))
        name = role.capitalize()
        if "trusted" in facts:
            resources[name] = {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": {"Ref": _PLACEHOLDERS[role]},
                    "AssumeRolePolicyDocument": _substituted(trust(facts["trusted"])),
                    "Policies": [{"PolicyName": "takeda", "PolicyDocument": document}],
                },
            }
            outputs[f"{name}Arn"] = {"Value": {"Fn::GetAtt": [name, "Arn"]}}
        else:
            resources[name] = {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {"Description": "takeda", "PolicyDocument": document},
            }
            outputs[f"{name}Arn"] = {"Value": {"Ref": name}}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "takeda: least-privilege roles. Made by policies.py of actions.yaml",
        "Parameters": parameters,
        "Resources": resources,
        "Outputs": outputs,
    }


def rights() -> dict[str, list[dict[str, Any]]]:
    """Each role's statements with the feature that needs them. The doctor's own are no part: it says itself
    what it may not ask."""
    return {
        role: [
            {"feature": one["feature"], **statement}
            for one, statement in zip(facts["statements"], policy(role)["Statement"], strict=True)
            if one["feature"] != "doctor"
        ]
        for role, facts in ROLES.items()
    }


def tables() -> str:
    """For the README: what each role may do, and why."""
    parts = []
    for role, facts in ROLES.items():
        parts += [f"### {role}", "", f"{_capital(facts['description'])}.", ""]
        parts += ["| action | call | made by | why | with |", "|---|---|---|---|---|"]
        for one in facts["statements"]:
            for action, about in one["actions"].items():
                calls = ", ".join(about.get("calls", ())) or "the service's own"
                why = about["why"] + (f" (when {about['rare']})" if "rare" in about else "")
                parts.append(
                    f"| `{action}` | {calls} | `{about['code']}` | {why} | {one['feature']} |"
                )
        parts.append("")
    parts += ["### Not granted", "", "| action | made by | why not |", "|---|---|---|"]
    parts += [
        f"| `{about['action']}` | `{about['code']}` | {about['why']} |"
        for about in DATA["not_granted"].values()
    ]
    parts += ["", "### Features", "", "| feature | when it is needed |", "|---|---|"]
    parts += [f"| {name} | {text} |" for name, text in DATA["features"].items()]
    parts += ["", "### Placeholders", "", "| placeholder | what |", "|---|---|"]
    parts += [f"| `{name}` | {text} |" for name, text in DATA["placeholders"].items()]
    return "\n".join(parts)


def files() -> dict[str, str]:
    """What is checked in beside this, by name."""
    made = {f"{role}.json": json.dumps(policy(role), indent=2) + "\n" for role in ROLES}
    text = yaml.safe_dump(template(), sort_keys=False, width=120)
    made["roles.yaml"] = f"# Made by policies.py of actions.yaml: change that.\n{text}"
    readme = (HERE / "README.md").read_text()
    before, _, rest = readme.partition(_BEGIN)
    after = rest.partition(_END)[2]
    made[RIGHTS] = json.dumps(rights(), separators=(",", ":")) + "\n"
    made["README.md"] = f"{before}{_BEGIN}\n\n{tables()}\n\n{_END}{after}"
    return made


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", nargs="?", choices=list(ROLES))
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--for", dest="features", default=",".join(DATA["features"]))
    args = parser.parse_args()
    if args.role is None:
        for name, text in files().items():
            (HERE / name).write_text(text)
        return 0
    values = {"Partition": "aws", **_DEFAULTS}
    for word in args.values:
        name, equals, value = word.partition("=")
        if not equals or name not in DATA["placeholders"]:
            parser.error(
                f"{word!r}: write NAME=VALUE, with one of {', '.join(DATA['placeholders'])}"
            )
        values[name] = value
    features = args.features.split(",")
    if unknown := set(features) - set(DATA["features"]):
        parser.error(f"--for {', '.join(unknown)}: there are {', '.join(DATA['features'])}")
    try:
        document = filled(policy(args.role, features), values)
    except KeyError as error:
        parser.error(f"{error.args[0]} is missing: {DATA['placeholders'][error.args[0]]}")
    print(json.dumps(document, indent=2))
    return 0


def _substituted(document: Any) -> Any:
    """Placeholders as CloudFormation's Fn::Sub has them."""
    if isinstance(document, str):
        text = _PLACEHOLDER.sub(lambda one: f"${{{_PSEUDO.get(one[1], one[1])}}}", document)
        return {"Fn::Sub": text} if "${" in text else text
    if isinstance(document, Mapping):
        return {key: _substituted(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_substituted(one) for one in document]
    return document


def _parameter_text(name: str) -> str:
    return _capital(str(DATA["placeholders"][name]).replace("`", ""))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    sys.exit(main())
