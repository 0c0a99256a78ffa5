"""Does the webhook answer through its Service? Asks it about a Pod as the API server would; nothing is created."""

import json
import os
import ssl
import sys
import urllib.request

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "asked-about", "annotations": {"drainproxy.io/inject": "enabled"}},
    "spec": {"containers": [{"name": "app", "image": "app", "ports": [{"name": "http", "containerPort": 8080}]}]},
}
REQUEST = {"uid": "helm-test", "operation": "CREATE", "dryRun": True, "namespace": sys.argv[1], "object": POD}
REVIEW = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": REQUEST}

# Its address, as the API server finds it too: by the Service's object, not by DNS.
host, port = (os.environ[f"DRAINPROXY_WEBHOOK_SERVICE_{each}"] for each in ("HOST", "PORT"))
url = f"https://{f'[{host}]' if ':' in host else host}:{port}/mutate"
# Who signed the certificate is for the API server to judge: it alone has the CA bundle.
unverified = ssl.create_default_context()
unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
question = urllib.request.Request(url, json.dumps(REVIEW).encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(question, timeout=10, context=unverified) as answer:
    response = json.load(answer)["response"]
if not response["allowed"] or "patch" not in response:
    sys.exit(f"the webhook answers, but adds no sidecar: {response}")
print("the webhook answers and adds the sidecar")
