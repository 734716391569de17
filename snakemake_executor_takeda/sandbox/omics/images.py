"""Where HealthOmics takes a task's image from: through the workflow's registry map, if it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def details(
    image: str, registries: Mapping[str, Any] | None, *, account_id: str, region: str
) -> dict[str, str]:
    """GetRunTask's imageDetails of an image as the workflow names it."""
    mapped = _mapped(image, registries or {}, account_id, region)
    found = {"image": mapped}
    if mapped != image:
        found["sourceImage"] = image
    _, _, digest = mapped.partition("@")
    if digest:
        found["imageDigest"] = digest
    return found


def _mapped(image: str, registries: Mapping[str, Any], account_id: str, region: str) -> str:
    for one in registries.get("imageMappings", []):
        if one.get("sourceImage") == image and one.get("destinationImage"):
            return str(one["destinationImage"])
    for one in registries.get("registryMappings", []):
        upstream = "/".join(
            filter(None, (one["upstreamRegistryUrl"], one.get("upstreamRepositoryPrefix")))
        )
        if image.startswith(f"{upstream}/"):
            account = one.get("ecrAccountId", account_id)
            rest = image.removeprefix(f"{upstream}/")
            return f"{account}.dkr.ecr.{region}.amazonaws.com/{one['ecrRepositoryPrefix']}/{rest}"
    return image
