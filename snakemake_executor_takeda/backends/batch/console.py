"""Links into the AWS console: a job of Batch, a log stream of CloudWatch. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
_DOMAIN = "console.aws.amazon.com"


@dataclass(frozen=True)
class Console:
    """The console of one region."""

    region: str

    def job(self, job_id: str) -> str:
        """The page of a job, or of an array's child (`parent:index`)."""
        return f"{self._home('batch')}#jobs/detail/{quote(job_id, safe=':#')}"

    def log(self, group: str, stream: str) -> str:
        """The page of a log stream. The console wants its names percent-encoded twice, with `$` for
        the outer `%`: `/` is `$252F`."""
        names = f"log-group/{_twice(group)}/log-events/{_twice(stream)}"
        return f"{self._home('cloudwatch')}#logsV2:log-groups/{names}"

    def _home(self, service: str) -> str:
        domain = next(
            (d for start, d in _DOMAINS.items() if self.region.startswith(start)), _DOMAIN
        )
        return f"https://{self.region}.{domain}/{service}/home?region={self.region}"


def console_of(region: str, endpoint_url: str) -> Console | None:
    """The console beside a service's endpoint; None for an endpoint that is not AWS's own."""
    host = endpoint_url.partition("://")[2].partition("/")[0]
    is_aws = host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
    return Console(region) if is_aws else None


def _twice(name: str) -> str:
    return quote(quote(name, safe=""), safe="").replace("%", "$")
