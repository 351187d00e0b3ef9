"""Helm's own engine, for the tests: jobs as JSON lines in, results as JSON lines out.

A job: {"chart": DIR, "values": {...}, "validate": [VERSION, ...]}; its result: {"manifests": {PATH: TEXT}, "objects": [...]}
or {"error": TEXT}; "invalid": what kubernetes-validate says, by version; "lint": what Helm's linter says.
"""

import json
import sys

import helm_python as helm
import kubernetes_validate
import yaml


def objects(manifests):
    for path, text in sorted(manifests.items()):
        if path.endswith(".txt"):
            continue
        yield from (document for document in yaml.safe_load_all(text) if document)


def run(job):
    with helm.Chart.load(job["chart"]) as chart:
        try:
            values = helm.values_from_yaml(job["yaml"]) if "yaml" in job else job.get("values")
            # As `helm install` does: the schema first, then the templates.
            chart.validate_schema(values)
            manifests = chart.render(values=values, name="release", namespace="vms")
        except helm.HelmError as error:
            return {"error": str(error)}
    found = list(objects(manifests))
    invalid = []
    for version in job.get("validate", []):
        for item in found:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                invalid.append(f"{version}: {item['kind']} {item['metadata']['name']}: {error.message}")
    return {"manifests": manifests, "objects": found, "invalid": invalid, "lint": lint(job, values)}


def lint(job, values):
    return helm.lint(job["chart"], values=values) if job.get("lint") else None


for line in sys.stdin:
    print(json.dumps(run(json.loads(line)), default=str), flush=True)
