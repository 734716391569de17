"""What roles may do, against what the policies of this project say that they must."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.doctor.cloud import Cloud, Once, asking
from snakemake_executor_takeda.doctor.findings import Checkup, Finding, NotTold
from snakemake_executor_takeda.doctor.identity import HERE

if TYPE_CHECKING:
    from snakemake_executor_takeda.doctor.identity import Caller

TABLE = Path(__file__).with_name("rights.json")
"""Made by infrastructure/iam/policies.py of actions.yaml."""
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_SESSION = re.compile(r"arn:[\w-]+:sts::(\d{12}):assumed-role/([^/]+)/.+")
_SHOWN = 6


@dataclass(frozen=True)
class Right:
    """Actions that a role needs on resources, under conditions."""

    actions: tuple[str, ...]
    named: tuple[str, ...]
    """ARNs of what the project names, such as its queues: each must be allowed."""
    samples: tuple[str, ...]
    """Ones that stand for what a run will make, such as jobs. Not each action is about each of them: one
    that is allowed will do. `*` alone for what knows no resources."""
    context: Mapping[str, tuple[str, ...]]
    """Condition keys and the values that the call will bring."""


@dataclass(frozen=True)
class Denied:
    """What IAM would say no to."""

    action: str
    resource: str
    decision: str
    """`implicitDeny`: nothing allows it; `explicitDeny`: something forbids it."""


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def rights_of(
    role: str, features: Iterable[str], values: Mapping[str, Sequence[str]]
) -> list[Right]:
    """What a role (`controller`, `job`, `execution`, `healthomics`) needs for these features. `values` are
    those of the placeholders; statements about one that has none are left out."""
    chosen, found = set(features), []
    for one in _table()[role]:
        if one["feature"] not in chosen:
            continue
        named = tuple(
            r for text in one["Resource"] if "*" not in text for r in _filled(text, values)
        )
        samples = tuple(r for text in one["Resource"] if "*" in text for r in _filled(text, values))
        if named or samples:
            context = {
                key: tuple([wanted] if isinstance(wanted, str) else wanted)
                for pairs in one.get("Condition", {}).values()
                for key, wanted in pairs.items()
            }
            found.append(Right(tuple(one["Action"]), named, samples, context))
    return found


def _filled(text: str, values: Mapping[str, Sequence[str]]) -> list[str]:
    """The resource for each combination of values. What is open (`*`) stands for one that there may be."""
    if text == "*":
        return ["*"]
    names = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
    filled = []
    for combination in itertools.product(*(values.get(name, ()) for name in names)):
        one = text
        for name, value in zip(names, combination, strict=True):
            one = one.replace(f"${{{name}}}", value)
        filled.append(one.replace("*", "doctor"))
    return list(dict.fromkeys(filled))


def judged_rights(denied: Sequence[Denied], who: str, why: str, fix: str) -> Iterator[Finding]:
    """One finding for all that a principal may not do."""
    if not denied:
        return
    by_resource: dict[str, list[str]] = {}
    for one in denied:
        said = " (forbidden)" if one.decision == "explicitDeny" else ""
        by_resource.setdefault(one.resource, []).append(f"{one.action}{said}")
    lines = [f"{', '.join(actions)} on {resource}" for resource, actions in by_resource.items()]
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    yield Finding(f"{who} may not: {'; '.join(lines[:_SHOWN])}{more}", why, fix)


def simulated(cloud: Cloud, principal: str, rights: Iterable[Right]) -> list[Denied]:
    """What IAM would deny to a user or role. Raises NotTold."""
    found: list[Denied] = []
    for right in rights:
        question = {
            "PolicySourceArn": principal,
            "ActionNames": list(right.actions),
            "ResourceArns": [*right.named, *right.samples],
        }
        # One value of a condition at a time: any of them will do.
        answers = [
            _simulated_once(cloud, question, dict(zip(right.context, chosen, strict=True)))
            for chosen in itertools.product(*right.context.values())
        ]
        found += denied_of(right, answers)
    return list({(one.action, one.resource): one for one in found}.values())


def denied_of(right: Right, answers: Sequence[Sequence[Denied]]) -> Iterator[Denied]:
    """What is denied in every one of the answers, on something that is named or on all samples."""
    first, *others = ({(one.action, one.resource): one for one in answer} for answer in answers)
    always = {key: one for key, one in first.items() if all(key in other for other in others)}
    for action in right.actions:
        yield from (always[action, place] for place in right.named if (action, place) in always)
        if right.samples and all((action, place) in always for place in right.samples):
            yield always[action, right.samples[0]]


def _simulated_once(
    cloud: Cloud, question: Mapping[str, Any], context: Mapping[str, str]
) -> list[Denied]:
    entries = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in context.items()
    ]
    with asking("iam", "iam:SimulatePrincipalPolicy"):
        pages = cloud.client("iam").get_paginator("simulate_principal_policy")
        results = [
            one
            for page in pages.paginate(**question, ContextEntries=entries)
            for one in page["EvaluationResults"]
        ]
    return list(_denied_in(results))


def _denied_in(results: Iterable[Mapping[str, Any]]) -> Iterator[Denied]:
    for one in results:
        each = one.get("ResourceSpecificResults") or [
            {
                "EvalResourceName": one.get("EvalResourceName", "*"),
                "EvalResourceDecision": one["EvalDecision"],
            }
        ]
        for result in each:
            if result["EvalResourceDecision"] != "allowed":
                yield Denied(
                    one["EvalActionName"],
                    result["EvalResourceName"],
                    result["EvalResourceDecision"],
                )


# Roles.


def trusts(document: Mapping[str, Any], service: str) -> bool:
    """Whether a role's trust policy lets a service take it up, conditions not looked at."""
    statements = document.get("Statement", [])
    for one in [statements] if isinstance(statements, Mapping) else statements:
        principal = one.get("Principal", {})
        services = principal if isinstance(principal, str) else principal.get("Service", [])
        named = [services] if isinstance(services, str) else services
        actions = one.get("Action", [])
        actions = [actions] if isinstance(actions, str) else actions
        if (
            one.get("Effect") == "Allow"
            and {service, "*"} & set(named)
            and {"sts:AssumeRole", "sts:*", "*"} & set(actions)
        ):
            return True
    return False


def judged_trust(
    role: Mapping[str, Any] | None, arn: str, where: str, word: str, service: str
) -> Iterator[Finding]:
    """Of a role as GetRole has it, None where there is none. `word` of the target `where` names it."""
    name = arn.rpartition("/")[2]
    if role is None:
        yield Finding(
            f"{where}: `{word}`: there is no role {name}",
            "jobs fail before they begin: nothing can take it up",
            f"correct `{word}`, or make the role: aws "
            "cloudformation deploy --template-file infrastructure/iam/roles.yaml --stack-name "
            "takeda-roles --capabilities CAPABILITY_NAMED_IAM --parameter-overrides Bucket=…",
        )
        return
    document = role.get("AssumeRolePolicyDocument", {})
    if not trusts(document, service):
        wanted = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
            ],
        }
        yield Finding(
            f"{where}: `{word}`: the role {name} does not trust {service}",
            "jobs fail before they begin: the service cannot take it up",
            f"aws iam update-assume-role-policy --role-name {name} --policy-document "
            f"'{json.dumps(wanted)}'",
        )


def role_of(cloud: Cloud, caller: Once[Caller], arn: str) -> Mapping[str, Any] | None:
    """As GetRole has it; None where it does not exist. Raises NotTold."""
    account = arn.split(":")[4]
    if account != (here := caller().account):
        raise NotTold(f"the role {arn} is of the account {account}, and this is {here}")
    return _get_role(cloud, arn.rpartition("/")[2])


def _get_role(cloud: Cloud, name: str) -> Mapping[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        with asking("iam", "iam:GetRole"):
            role: Mapping[str, Any] = cloud.client("iam").get_role(RoleName=name)["Role"]
            return role
    except ClientError as error:
        if aws.error_code(error) in ("NoSuchEntity", "NoSuchEntityException"):
            return None
        raise


def principal_of(cloud: Cloud, caller: Caller) -> str | None:
    """Whose policies decide about the caller: the user, or the role of a session. None for the account's
    root, who may do everything. Raises NotTold."""
    if caller.arn.endswith(":root"):
        return None
    session = _SESSION.fullmatch(caller.arn)
    if session is None:
        return caller.arn
    # The ARN of a session does not tell the role's path.
    role = _get_role(cloud, session[2])
    if role is None:
        raise NotTold(f"the role of {caller.arn} cannot be looked up")
    return str(role["Arn"])


def role_checkups(
    cloud: Cloud,
    caller: Once[Caller],
    *,
    about: str,
    arn: str,
    where: str,
    word: str,
    service: str,
    rights: Once[list[Right]],
    kind: str,
    after: tuple[Checkup, ...],
) -> tuple[Checkup, Checkup]:
    """That a role is there and trusts the service, and that it may do what it needs. `kind` is its name in
    infrastructure/iam."""
    asked = Once(lambda: role_of(cloud, caller, arn))
    there = Checkup(
        f"{kind} role", about, lambda: judged_trust(asked(), arn, where, word, service), after=after
    )

    def look() -> Iterator[Finding]:
        role = asked()
        assert role is not None  # it comes after `there`
        denied = simulated(cloud, str(role["Arn"]), rights())
        name = arn.rpartition("/")[2]
        return judged_rights(
            denied,
            f"{where}: `{word}`: the role {name}",
            "jobs start, and fail where they need it",
            f"infrastructure/iam/policies.py {kind} prints a policy for it; then aws iam "
            f"put-role-policy --role-name {name} --policy-name takeda --policy-document file://policy.json",
        )

    return there, Checkup(f"{kind} role's rights", about, look, after=(there,))


def own_rights_checkup(
    cloud: Cloud,
    caller: Once[Caller],
    rights: Once[list[Right]],
    features: Sequence[str],
    after: tuple[Checkup, ...],
) -> Checkup:
    """That whoever runs Snakemake may do what a run does."""

    def look() -> Iterator[Finding]:
        who = caller()
        principal = principal_of(cloud, who)
        if principal is None:
            return iter(())
        return judged_rights(
            simulated(cloud, principal, rights()),
            principal,
            "a run stops, or cannot tell why a job failed, where it makes the call",
            "infrastructure/iam/policies.py controller … --for "
            f"{','.join(features)} prints the policy; attach it to {principal.rpartition('/')[2]}",
        )

    return Checkup("your rights", HERE, look, after=after)
