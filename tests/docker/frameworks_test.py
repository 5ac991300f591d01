#!/usr/bin/env python3
"""examples/frameworks with a real engine, as its README says: build, up, the accuracy, the answers, a swap, down.

usage: frameworks_test.py FOLDER_OF_PROGRAMS. Exit code 77 (skipped) where no engine answers or docker-compose is
missing. The images of the frameworks that were not there before are removed at the end; those that other tests use,
too, stay.
"""

import base64
import json
import pathlib
import re
import sys
import tempfile

from engine import (DIGITS, ROOM_FOR_TWO, ROOT, Clients, Compose, Opsplit, check_hardening, eventually, expect,
                    nothing_left, run, skip_without_engine)

FRAMEWORKS = {"conv": "pytorch", "relu": "tensorflow", "gemm": "onnxruntime"}
OPERATORS = [*FRAMEWORKS, "maxpool", "softmax"]
FOLDER = ROOT / "examples/frameworks"

# Asks both deployments for every test image, in a container that has NumPy and opsplit.
ASK = """
import base64, io, json, sys
import numpy as np
import opsplit

images = np.load(io.BytesIO(base64.b64decode(sys.stdin.read())))
clients = [opsplit.connect(name, socket="/tmp/opsplit-10001/opsplitd.sock") for name in ("digits", "fused")]
answers = [np.stack([client.infer((image / 16).astype(np.float32).reshape(1, 1, 8, 8)) for image in images])
           for client in clients]
print(json.dumps({"images": len(images), "difference": float(np.abs(answers[0] - answers[1]).max()),
                  "digits": len(set(answers[0].reshape(len(images), 10).argmax(1).tolist()))}))
"""


def client_classifies(compose):
    def ended():
        state = compose.inspect("client")["State"]
        return not state["Running"] and state["ExitCode"] == 0 and not state["Restarting"]

    eventually("the client has ended well", ended, 300, compose.logs)
    found = re.search(r"accuracy ([0-9.]+) %", compose("logs", "--no-color", "client"))
    accuracy = float(found.group(1)) if found else 0.0
    print(f"accuracy {accuracy} %")
    expect(accuracy >= 97, f"accuracy {accuracy} %")


def each_runs_in_its_framework(compose):
    """Hardened as the others are, within the memory limit that is written for it."""
    for operator in OPERATORS:
        found = compose.inspect(operator)
        check_hardening(found, operator, "container:")
        image = f"opsplit/operator-{FRAMEWORKS[operator]}" if operator in FRAMEWORKS else "opsplit/operator"
        expect(found["Config"]["Image"] == image, f"{operator} is made from {found['Config']['Image']}")
        expect(found["RestartCount"] == 0, f"{operator} has ended and was restarted:\n{compose.logs()}")
        used = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", found["Id"]).strip()
        print(f"{operator}: memory {used}, image "
              f"{int(run('docker', 'image', 'inspect', '-f', '{{.Size}}', image)) / 1e6:.0f} MB")


def answers_are_those_of_opsplits_own_kernels(compose):
    """In one process of them: another deployment in the same opsplitd."""
    compose.inside("opsplit", "up", "/digits/digits.onnx", "--split", "fused", "--name", "fused")
    images = base64.b64encode((DIGITS / "test_images.npy").read_bytes()).decode()
    seen = json.loads(run("docker", "exec", "-i", compose.container("gemm"), "python3", "-c", ASK, stdin=images))
    compose.inside("opsplit", "down", "fused")
    print(f"{seen['images']} images; answers differ from those of opsplit's own kernels by {seen['difference']:.1e}")
    expect(seen["images"] == 360 and seen["digits"] == 10, f"asked for {seen}")
    expect(seen["difference"] < 1e-5, f"other answers, by {seen['difference']}")


def inputs_are_not_copied(compose):
    """ONNX Runtime copies nothing; the others at most what they write."""
    for operator, framework in FRAMEWORKS.items():
        instance = compose.instance(operator)
        print(f"{operator}: {framework} copied {instance['bytes_copied']} bytes")
    expect(compose.instance("gemm")["bytes_copied"] == 0, "ONNX Runtime copied bytes")


def swapped_for_another_framework(compose, opsplit):
    """While clients ask; from the host, where nothing but the engine knows of the project."""
    before = compose.inspect("maxpool")["HostConfig"]["Memory"]
    with Clients(compose.container("opsplitd"), "/digits") as clients:
        eventually("clients get answers", lambda: clients.ends)
        for backend, image in (("pytorch", "opsplit/operator-pytorch"), ("native", "opsplit/operator")):
            opsplit("swap", "digits/maxpool", "--backend", backend)
            found = compose.inspect("maxpool")
            expect(found["Config"]["Image"] == image, f"maxpool is made from {found['Config']['Image']}")
            check_hardening(found, "maxpool", "container:")
            expect(found["RestartCount"] == 0, f"maxpool has ended and was restarted:\n{compose.logs()}")
            expect(found["HostConfig"]["Memory"] > before, "no room for PyTorch")
            expect(compose.instance("maxpool")["state"] == "ready", f"maxpool is {compose.instance('maxpool')}")
            asked = sum(clients.ends.values())
            eventually("clients get answers afterwards", lambda: sum(clients.ends.values()) > asked + 1)
    print(f"maxpool swapped to PyTorch and back; clients meanwhile: {clients.ends}")
    expect(set(clients.ends) == {"answered"} and clients.wrong == 0, f"clients' ends: {clients.ends}")


def is_there(image):
    return run("docker", "image", "ls", "-q", image) != ""


def main():
    skip_without_engine()
    programs = pathlib.Path(sys.argv[1])
    images = [f"opsplit/operator-{framework}" for framework in FRAMEWORKS.values()]
    ours_to_remove = [image for image in images if not is_there(image)]
    file = FOLDER / "compose.yaml"
    with nothing_left(), tempfile.NamedTemporaryFile("w", suffix=".yaml") as override, \
            tempfile.TemporaryDirectory() as folder:
        override.write(ROOM_FOR_TWO)
        override.flush()
        compose = Compose("opsplit-frameworks", file, override.name)
        try:
            for service in ("opsplitd", "maxpool", *FRAMEWORKS):  # one image at a time
                compose("build", "anchor" if service == "opsplitd" else service, timeout=3000)
            compose("up", "-d", "--no-build", timeout=300)
            client_classifies(compose)
            each_runs_in_its_framework(compose)
            answers_are_those_of_opsplits_own_kernels(compose)
            inputs_are_not_copied(compose)
            swapped_for_another_framework(compose, Opsplit(programs, folder))
        finally:
            compose.down()
            for image in ours_to_remove:
                run("docker", "image", "rm", image, check=False)
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
