#!/usr/bin/env python3
"""Compose files with GPUs, as far as they go without an engine and without a GPU: docker-compose accepts what the
exporter writes, each party sees the GPUs that it needs, and they share what handles to device memory need.

usage: compose_cuda_test.py FOLDER_OF_PROGRAMS. Exit code 77 (skipped) where docker-compose is missing. The images are
built, and run, where there is a GPU, by nobody yet.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"

# One GPU by its UUID, two operators on it, one of them in two containers.
BY_UUID = f"""
name: two
model: {DIGITS}/digits.onnx
operators:
  conv: {{gpu: {UUID}, instances: 2}}
  relu: {{gpu: {UUID}}}
  softmax: {{backend: attach, gpu: {UUID}}}
"""


def check(file, seen):
    """seen: the GPUs of the services that see some."""
    command = ["docker-compose", "-f", file, "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"docker-compose does not accept {file}: {done.stderr}")
    import yaml
    services = yaml.safe_load(done.stdout)["services"]
    if not set(seen) <= set(services):
        sys.exit(f"{file} lacks services: {sorted(services)}")
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE))
    for name, service in services.items():
        def expect(holds, what, name=name, service=service):
            if not holds:
                sys.exit(f"{file}: {name} {what}: {json.dumps(service)}")

        gpu = {"NVIDIA_VISIBLE_DEVICES": seen[name]} if name in seen else None
        expect(service.get("runtime") == ("nvidia" if gpu else None), "has a GPU, or should have one")
        expect(service.get("environment") == gpu, "sees other GPUs, or has an environment for no reason")
        expect(service["image"].endswith("-cuda") == bool(gpu), "is made from an image of the other kind")
        expect(name == "anchor" or service["pid"] == "service:anchor", "is in another PID namespace")
        ipc = services["anchor"]["ipc"]
        expect(service["ipc"] == ("service:anchor" if ipc == "shareable" and name != "anchor" else ipc),
               "is in another IPC namespace")
        expect(service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"] and
               service["read_only"] is True and service["network_mode"] == "none", "may do too much")
        expect(not {"devices", "privileged", "cap_add", "deploy"} & set(service), "may do too much")
        expect("build" not in service or service["build"]["target"] in targets, "is made from no target of the Dockerfile")


def main():
    if not shutil.which("docker-compose"):
        print("skipped: docker-compose is not installed")
        return 77
    try:
        import yaml  # noqa: F401
    except ImportError:
        print("skipped: python3-yaml is not installed")
        return 77
    programs = pathlib.Path(sys.argv[1])
    check(ROOT / "compose.cuda.yaml", {"opsplitd": "0", "conv": "0", "gemm": "0"})
    with tempfile.TemporaryDirectory() as folder:
        deployment, written = pathlib.Path(folder, "two.yaml"), pathlib.Path(folder, "compose.yaml")
        deployment.write_text(BY_UUID)
        for options in ((), ("--ipc", "own"), ("--build", ROOT)):
            subprocess.run([programs / "opsplit", "export", "compose", deployment, "-o", written, *options], check=True)
            check(written, {"opsplitd": UUID, "conv": UUID, "relu": UUID})
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
