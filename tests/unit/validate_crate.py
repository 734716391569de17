"""validate_crate.py REQUIRED|RECOMMENDED CRATE…: what the RO-Crate community's validator says of each, as JSON.

Run with the Python of the validator's own environment. The validator has its profiles with it, but
fetches the JSON-LD contexts: here it gets, without a network, the terms that our crates use."""

import json
import sys

import requests
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings

SCHEMA, WFRUN = "http://schema.org/", "https://w3id.org/ro/terms/workflow-run#"
OF_SCHEMA = """
    about actionStatus additionalType agent author contentSize CreateAction CreativeWork Dataset
    datePublished description encodingFormat endTime error hasPart identifier instrument license mainEntity mentions
    name object Person programmingLanguage propertyID PropertyValue result softwareRequirements
    SoftwareApplication SoftwareSourceCode softwareVersion startTime unitCode url value version
    """
OF_WORKFLOW_RUN = "ContainerImage containerImage registry resourceUsage sha256 tag"
RO_CRATE = {
    **{term: SCHEMA + term for term in OF_SCHEMA.split()},
    "File": f"{SCHEMA}MediaObject",
    "ComputerLanguage": f"{SCHEMA}ComputerLanguage",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
}
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": RO_CRATE,
    "https://w3id.org/ro/terms/workflow-run/context": {
        term: WFRUN + term for term in OF_WORKFLOW_RUN.split()
    },
}


def answer(session, request, **named):
    """What an HTTP request gets: one of the contexts, or nothing."""
    response = requests.Response()
    response.request, response.url = request, request.url
    response.status_code = 200 if request.url in CONTEXTS else 504
    response.headers["Content-Type"] = "application/ld+json"
    response._content = json.dumps({"@context": CONTEXTS.get(request.url)}).encode()
    return response


def main(severity, *crates):
    requests.Session.send = answer
    said = []
    for crate in crates:
        settings = ValidationSettings(
            rocrate_uri=crate,
            profile_identifier="workflow-run-crate",
            requirement_severity=Severity[severity],
            no_cache=True,
        )
        issues = services.validate(settings).get_issues()
        said.append([[issue.severity.name, issue.message] for issue in issues])
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
