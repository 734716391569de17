"""Can an image be pulled? Asked of its registry, without Docker."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.doctor.cloud import Cloud, asking
from snakemake_executor_takeda.doctor.findings import Finding, NotTold

HUB = "registry-1.docker.io"
_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[\w-]+)\.amazonaws\.com(\.cn)?")
_LOCAL = re.compile(r"(localhost|127\.0\.0\.1)(:\d+)?")
_REALM = re.compile(r'(\w+)="([^"]*)"')
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_WHY = "every job fails with CannotPullContainerError"


@dataclass(frozen=True)
class Image:
    """A reference as container engines read it."""

    host: str
    """Of the registry; `registry-1.docker.io` where none is named."""
    repository: str
    tag: str
    """Or a digest, `sha256:…`."""

    @property
    def is_digest(self) -> bool:
        return self.tag.startswith("sha256:")


def parsed(reference: str) -> Image:
    """`quay.io/lab/tool:1.0` → its parts, with Docker's defaults."""
    rest, _, digest = reference.partition("@")
    first, slash, remainder = rest.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, remainder) if is_host else (HUB, rest)
    name, _, tag = path.partition(":")
    if host in ("docker.io", "index.docker.io"):
        host = HUB
    if host == HUB and "/" not in name:
        name = f"library/{name}"
    return Image(host, name, digest or tag or "latest")


def look_at_image(
    reference: str, word: str, cloud_of: Callable[[str], Cloud], *, is_emulated: bool
) -> Iterator[Finding]:
    """Whether it is in its registry. `word` is what names it, with its place; `cloud_of` gives clients of a
    Region; where Batch itself `is_emulated`, only ECR is asked. Raises NotTold."""
    image = parsed(reference)
    ecr = _ECR.fullmatch(image.host)
    if ecr:
        missing = _missing_in_ecr(image, cloud_of(ecr["region"]), ecr["account"])
        yield from judged_ecr(missing, image, word)
        return
    if is_emulated and not _LOCAL.fullmatch(image.host):
        raise NotTold(
            f"{word} {reference}: an emulator stands in for AWS Batch here, which may pull no image"
        )
    yield from judged_registry(_status(image), image, reference, word)


def _missing_in_ecr(image: Image, cloud: Cloud, account: str) -> str | None:
    """`repository` or `image` where that is not there."""
    from botocore.exceptions import ClientError

    which = {"imageDigest": image.tag} if image.is_digest else {"imageTag": image.tag}
    try:
        with asking("ecr", "ecr:DescribeImages"):
            cloud.client("ecr").describe_images(
                registryId=account, repositoryName=image.repository, imageIds=[which]
            )
    except ClientError as error:
        missing = {"RepositoryNotFoundException": "repository", "ImageNotFoundException": "image"}
        if found := missing.get(aws.error_code(error)):
            return found
        raise
    return None


def judged_ecr(missing: str | None, image: Image, word: str) -> Iterator[Finding]:
    if missing is None:
        return
    whole = f"{image.host}/{image.repository}:{image.tag}"
    region = image.host.split(".")[3]
    push = f"docker push {whole}" if not image.is_digest else "push it, and name the digest it gets"
    if missing == "repository":
        yield Finding(
            f"{word}: ECR has no repository {image.repository} in {region}",
            _WHY,
            f"aws ecr create-repository --region {region} --repository-name {image.repository}, then {push}",
        )
    else:
        yield Finding(
            f"{word}: the repository {image.repository} has no image {image.tag}",
            _WHY,
            f"{push}, or name one of: aws ecr list-images --region {region} --repository-name "
            f"{image.repository}",
        )


def judged_registry(status: int, image: Image, reference: str, word: str) -> Iterator[Finding]:
    """`status` is what the registry answered to a HEAD for the manifest, without credentials."""
    if status == 200:
        return
    if image.repository.startswith("library/") and image.host == HUB and status != 429:
        yield Finding(
            f"{word} {reference} names no registry, and Docker Hub has no such public image",
            _WHY,
            "build the worker image (containers/worker), push it to a registry, and name it with that: "
            f"image: ACCOUNT.dkr.ecr.REGION.amazonaws.com/{image.repository.removeprefix('library/')}"
            f":{image.tag}",
        )
    elif status == 404:
        yield Finding(
            f"{word}: {image.host} has no image {image.repository}:{image.tag}",
            _WHY,
            f"correct the name, or push it: docker push {reference}",
        )
    elif status in (401, 403):
        # One that is private looks like one that is not there, and nodes may have credentials.
        raise NotTold(
            f"{word}: {image.host} does not give {image.repository}:{image.tag} to everybody, or has none",
            f"docker manifest inspect {reference}; for a private registry name its secret: "
            "registry_credentials: arn:aws:secretsmanager:…",
        )
    else:
        raise NotTold(f"{word}: {image.host} answered {status} for {reference}", "run it again")


def _status(image: Image) -> int:
    """HTTP status of the manifest. Raises NotTold where the registry does not answer from here."""
    scheme = "http" if _LOCAL.fullmatch(image.host) else "https"
    url = f"{scheme}://{image.host}/v2/{image.repository}/manifests/{image.tag}"
    status, challenge = _head(url, None)
    if status == 401 and challenge.lower().startswith("bearer "):
        token = _token(dict(_REALM.findall(challenge)), image.repository)
        if token:
            status, _ = _head(url, token)
    return status


def _head(url: str, token: str | None) -> tuple[int, str]:
    """Status and challenge."""
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": _ACCEPT})  # noqa: S310
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status), ""
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("WWW-Authenticate", "")
    except (OSError, ValueError) as error:
        raise NotTold(
            f"{url.split('/')[2]} does not answer from here ({getattr(error, 'reason', error)}); jobs may reach it all the same"
        ) from error


def _token(challenge: dict[str, str], repository: str) -> str | None:
    """An anonymous one for pulling; None where there is none to be had."""
    realm = challenge.get("realm", "")
    if not realm.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        return None
    words = {"service": challenge.get("service", ""), "scope": f"repository:{repository}:pull"}
    try:
        with urllib.request.urlopen(f"{realm}?{urlencode(words)}", timeout=10) as answer:  # noqa: S310
            said = json.loads(answer.read())
    except (OSError, ValueError):
        return None
    return said.get("token") or said.get("access_token") if isinstance(said, dict) else None
