#!/usr/bin/env python3
"""compose.cuda.yaml, as far as it goes without an engine and without a GPU: docker-compose accepts it, and its parties
share what handles to device memory need.

Exit code 77 (skipped) where docker-compose is missing. The images are built, and run, where there is a GPU, by nobody yet.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ON_GPU = {"opsplitd", "conv", "gemm"}


def main():
    if not shutil.which("docker-compose"):
        print("skipped: docker-compose is not installed")
        return 77
    command = ["docker-compose", "-f", ROOT / "compose.cuda.yaml", "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"docker-compose does not accept compose.cuda.yaml: {done.stderr}")
    try:
        import yaml
    except ImportError:
        print("skipped beyond `config`: python3-yaml is not installed")
        return 77
    services = yaml.safe_load(done.stdout)["services"]
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE))
    for name, service in services.items():
        def expect(holds, what, name=name, service=service):
            if not holds:
                sys.exit(f"{name} {what}: {json.dumps(service)}")

        expect((service.get("runtime") == "nvidia") == (name in ON_GPU), "has a GPU, or should have one")
        expect(name == "anchor" or service["pid"] == "service:anchor", "is in another PID namespace")
        expect(service["ipc"] == "host", "is in another IPC namespace")
        expect(service["cap_drop"] == ["ALL"] and service["read_only"] is True, "may do too much")
        expect("build" not in service or service["build"]["target"] in targets, "is made from no target of the Dockerfile")
    deployment = yaml.safe_load((ROOT / "examples" / "digits" / "digits-cuda.yaml").read_text())
    if set(deployment["operators"]) | {"opsplitd"} != ON_GPU:
        sys.exit(f"digits-cuda.yaml has other operators on a GPU: {deployment}")
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
