"""Secrets of a container: fetched from Secrets Manager or SSM when an attempt starts, as ECS does."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from functools import cached_property
from typing import Any

from snakemake_executor_takeda.sandbox.batch.runners import Attempt, Runner, StartFailure
from snakemake_executor_takeda.sandbox.services import Context

_FAILED = (
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
    "retrieval failed: unable to retrieve secret"
)
_SECONDS = 5
_ARN_PARTS = 7
"""Of a Secrets Manager ARN; behind it may stand JSON key, version stage and version id."""


class WithSecrets:
    """A runner whose attempts find their container's secrets in the environment.

    The values pass from the sandbox's own Secrets Manager to the process: they are in no record.
    """

    def __init__(self, runner: Runner, context: Context) -> None:
        self._runner = runner
        self._context = context

    def start(self, attempt: Attempt) -> subprocess.Popen[bytes] | None:
        wanted = attempt.container.get("secrets", [])
        if wanted:
            values = {one["name"]: self._value(one["valueFrom"]) for one in wanted}
            attempt = replace(attempt, environment={**attempt.environment, **values})
        return self._runner.start(attempt)

    def look_back(self, attempt: Attempt, exit_code: int) -> str | None:
        return self._runner.look_back(attempt, exit_code)

    def stop(self, attempt: Attempt) -> None:
        self._runner.stop(attempt)

    def clean(self, attempt: Attempt) -> None:
        self._runner.clean(attempt)

    def end_left(self) -> None:
        self._runner.end_left()

    def _value(self, place: str) -> str:
        """Raises StartFailure in the words of ECS."""
        from botocore.exceptions import BotoCoreError, ClientError

        is_secret = ":secretsmanager:" in place
        service = "asm" if is_secret else "ssm"
        try:
            return self._secret(place) if is_secret else self._parameter(place)
        except ClientError as error:
            said = error.response["Error"]
            reason = f"{said.get('Code')}: {said.get('Message')}"
        except (BotoCoreError, LookupError) as error:
            reason = str(error.args[0] if error.args else error)
        raise StartFailure(
            f"{_FAILED} from {service}: service call has been retried 1 time(s): {reason}"
        )

    def _secret(self, place: str) -> str:
        parts = place.split(":")
        key, stage, version = (*parts[_ARN_PARTS:], "", "", "")[:3]
        which = {"VersionStage": stage, "VersionId": version}
        found = self._secrets_manager.get_secret_value(
            SecretId=":".join(parts[:_ARN_PARTS]),
            **{name: value for name, value in which.items() if value},
        )
        text = str(found["SecretString"])
        if not key:
            return text
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if not isinstance(content, dict) or key not in content:
            raise LookupError(
                f"retrieved secret from Secrets Manager did not contain json key {key}"
            )
        value = content[key]
        return value if isinstance(value, str) else json.dumps(value)

    def _parameter(self, place: str) -> str:
        name = place
        if place.startswith("arn:"):
            name = place.partition(":parameter/")[2]
            # the ARN of `/lab/token` and that of `token` have one slash less than one would think
            name = f"/{name}" if "/" in name else name
        found = self._ssm.get_parameters(Names=[name], WithDecryption=True)["Parameters"]
        if not found:
            raise LookupError(f"invalid parameters: {name}")
        return str(found[0]["Value"])

    @cached_property
    def _secrets_manager(self) -> Any:
        return self._client("secretsmanager")

    @cached_property
    def _ssm(self) -> Any:
        return self._client("ssm")

    def _client(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        variables = self._context.environment
        session: Any = boto3.Session(
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
            region_name=self._context.region,
        )
        return session.client(
            service,
            endpoint_url=self._context.moto_url,
            config=Config(
                connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 2}
            ),
        )
