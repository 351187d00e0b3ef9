"""Helm's own engine, for the tests: jobs as JSON lines in, results as JSON lines out.

A job: {"chart": DIR, "values": {...}, "validate": [VERSION, ...]}; "yaml": the values as text instead, or a list of texts,
merged. Its result: {"manifests": {PATH: TEXT}, "objects": [...], "values": {...}} or {"error": TEXT}; "invalid": what
kubernetes-validate says, by version, and with "rules" what api.py says; with "from": objects, "immutable": what of them an
update changes and may not; "lint": what Helm's linter says.
"""

import functools
import json
import sys

import helm_python as helm
import kubernetes_validate
import yaml
from kubernetes_validate import utils

import api

# It reads its megabytes of schemas anew for each object.
utils.schema_contents = functools.lru_cache(None)(utils.schema_contents)


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """As YAML 1.1 has it; a key that is there twice is no YAML."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, f"a key twice: {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def objects(manifests):
    for path, text in sorted(manifests.items()):
        if path.endswith(".txt"):
            continue
        yield from (document for document in yaml.load_all(text, Loader) if document)


def by_helm(manifests):
    """The same by the parser that Helm and the API server have."""
    for path, text in sorted(manifests.items()):
        if not path.endswith(".txt"):
            texts = ("\n" + text).split("\n---\n")
            yield from (document for document in map(helm.values_from_yaml, texts) if document)


def merged(base, over):
    """`helm --values a --values b`: mergeMaps of its options."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def run(job):
    with helm.Chart.load(job["chart"]) as chart:
        try:
            texts = job.get("yaml", [])
            texts = [texts] if isinstance(texts, str) else texts
            values = functools.reduce(merged, map(helm.values_from_yaml, texts), job.get("values") or {})
            # As `helm install` does: the schema first, then the templates.
            chart.validate_schema(values)
            manifests = chart.render(values=values, name="release", namespace="vms")
        except helm.HelmError as error:
            return {"error": str(error)}
    try:
        found = list(objects(manifests))
        invalid = [] if found == list(by_helm(manifests)) else ["two parsers read other objects"]
    except (yaml.YAMLError, helm.HelmError) as error:
        return {"error": None, "manifests": manifests, "values": values, "objects": [], "invalid": [str(error)]}
    for version in job.get("validate", []):
        for item in found:
            try:
                # Of the Prometheus operator's own kinds Kubernetes has no schema.
                if not item["apiVersion"].startswith("monitoring.coreos.com/"):
                    kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                invalid.append(f"{version}: {item['kind']} {item['metadata']['name']}: {error.message}")
    if job.get("rules"):
        invalid += api.refused(found)
    return {
        "manifests": manifests,
        "objects": found,
        "values": values,
        "invalid": invalid,
        "immutable": api.immutable(job.get("from", []), found),
        "lint": helm.lint(job["chart"], values=values) if job.get("lint") else None,
    }


for line in sys.stdin:
    print(json.dumps(run(json.loads(line)), default=str), flush=True)
