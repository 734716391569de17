"""How the things that a Batch target names are written: images, roles, secrets, limits, tags. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler


@dataclass(frozen=True)
class Like:
    """Text of a form: a pattern for editors, and for people the words that say what is expected."""

    pattern: str
    expected: str
    """An imperative with an example, without full stop."""

    def checked(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(self.expected)
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


Role = Annotated[
    str,
    Like(
        r"arn:[\w-]+:iam::\d{12}:role/\S+",
        "write the ARN of a role, such as arn:aws:iam::123456789012:role/takeda-job",
    ),
]
Region = Annotated[
    str, Like(r"[a-z]{2,}(-[a-z]+)+-\d", "write the code of a region, such as eu-central-1")
]
SHARE_PATTERN = r"[A-Za-z0-9]{1,255}\*?"
Share = Annotated[
    str,
    Like(
        SHARE_PATTERN,
        "write the share with letters and digits alone, such as labA",
    ),
]
PlatformVersion = Annotated[
    str, Like(r"LATEST|\d+\.\d+\.\d+", "write LATEST, or a version such as 1.4.0")
]

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(localhost|{_LABEL}(\.{_LABEL})+|{_LABEL}(?=:)|\[[0-9a-fA-F:]+\])(:\d+)?"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
Image = Annotated[
    str,
    # https://github.com/distribution/reference: the grammar of reference.go; 255 is Batch's own limit.
    Like(
        rf"(?=.{{1,255}}$)({_HOST}/)?{_PART}(/{_PART})*(:\w[\w.-]{{0,127}})?"
        r"(@[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
        "write [REGISTRY/]NAME[:TAG][@DIGEST] with NAME in lower case and without spaces, such as "
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com/takeda-worker:0.1.0",
    ),
]
LogGroup = Annotated[
    str,
    # CloudWatch Logs, CreateLogGroup: logGroupName.
    Like(
        r"[A-Za-z0-9_./#-]{1,512}",
        "write a name of letters, digits and _ . / # -, such as /aws/batch/job",
    ),
]
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
ContainerUser = Annotated[
    str,
    Like(
        rf"{_USER}(:{_USER})?",
        "write a user, or user and group, by number or name: '1000', '1000:1000', biouser",
    ),
]
SqsQueue = Annotated[
    str,
    Like(
        r"[A-Za-z0-9_-]{1,80}|arn:[\w-]+:sqs:[\w-]+:\d{12}:[A-Za-z0-9_-]{1,80}"
        r"|https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d+)?/[\w/.-]+",
        "write the name of an SQS queue (letters, digits, - and _), its URL, or its ARN, "
        "arn:aws:sqs:REGION:ACCOUNT:NAME",
    ),
]
EfsId = Annotated[
    str,
    Like(r"fs-[0-9a-f]{8,40}", "write the id of an EFS file system, such as fs-0123456789abcdef0"),
]
S3FilesArn = Annotated[
    str,
    Like(
        r"arn:[\w-]+:s3files:[\w-]+:\d{12}:file-system/fs-[0-9a-f]+",
        "write the ARN of an S3 Files file system, such as "
        "arn:aws:s3files:eu-central-1:123456789012:file-system/fs-0123456789abcdef0",
    ),
]
Directory = Annotated[str, Like(r"/.*", "write a directory from its root on, such as /references")]

SecretPlace = Annotated[
    str,
    Like(
        r"arn:[\w-]+:secretsmanager:[\w-]+:\d{12}:secret:[\w/+=.@-]+(:[^:]*){0,3}"
        r"|arn:[\w-]+:ssm:[\w-]+:\d{12}:parameter/[\w./-]+"
        r"|[\w./-]+",
        "give the ARN of a Secrets Manager secret (`aws secretsmanager describe-secret --secret-id NAME "
        "--query ARN`), or the name or ARN of an SSM parameter; never the value",
    ),
]


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith("AWS_BATCH"):
        raise ValueError(f"{name!r} is no name for an environment variable, or one of Batch's own")
    return name


Variable = Annotated[str, AfterValidator(_variable)]

_TAG_TEXT = re.compile(r"[\w +\-=.:/@]*")
_TAG_LETTERS = "letters, digits, spaces and + - = . _ : / @ only"
_OTHERS_TAGS = {"aws:": "AWS's", "takeda:": "takeda's"}


def _tag_key(key: str) -> str:
    for beginning, whose in _OTHERS_TAGS.items():
        if key.lower().startswith(beginning):
            raise ValueError(
                f"tags that begin with `{beginning}` are {whose} own: name it otherwise"
            )
    if not 1 <= len(key) <= 128 or not _TAG_TEXT.fullmatch(key):
        raise ValueError(f"a tag's key has 1 to 128 characters, {_TAG_LETTERS}")
    return key


def _tag_value(value: str) -> str:
    if len(value) > 256 or not _TAG_TEXT.fullmatch(value):
        raise ValueError(f"a tag's value has at most 256 characters, {_TAG_LETTERS}")
    return value


TagKey = Annotated[str, AfterValidator(_tag_key)]
TagValue = Annotated[str, AfterValidator(_tag_value)]

_ULIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"),
    *("rss", "rtprio", "rttime", "sigpending", "stack"),
)
_ULIMIT = re.compile(r"(-1|\d+)(?::(-1|\d+))?")


def _ulimit_name(name: str) -> str:
    if name not in _ULIMITS:
        near = difflib.get_close_matches(name, _ULIMITS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(_ULIMITS)}"
        raise ValueError(f"no limit is called {name!r}. {hint}")
    return name


def ulimit(name: str, given: object) -> dict[str, str | int]:
    """One of containerProperties.ulimits. Raises ValueError for what is no limit."""
    found = _ULIMIT.fullmatch(str(given))
    if not found:
        raise ValueError("no limit: write 65536, '1024:65536', or -1 for none")
    soft = int(found.group(1))
    hard = int(found.group(2) or soft)
    if hard != -1 and (soft > hard or soft == -1):
        raise ValueError("the soft limit is above the hard one: write 'SOFT:HARD'")
    return {"name": name, "softLimit": soft, "hardLimit": hard}


def _ulimit_value(given: object) -> object:
    ulimit("", given)
    return given


UlimitName = Annotated[str, AfterValidator(_ulimit_name)]
Ulimit = Annotated[int | str, BeforeValidator(_ulimit_value)]


def one_a_line(mistakes: list[str]) -> None:
    """Raises ValueError with every mistake on a line of its own, as a policy's messages are made."""
    if mistakes:
        raise ValueError("\n".join(mistakes))


def in_a_line(message: str) -> str:
    """Pydantic's message of a mistake, or of several, where it stands within a sentence."""
    return message.removeprefix("Value error, ").replace("\n", "; ").rstrip(".")
