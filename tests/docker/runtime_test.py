#!/usr/bin/env python3
"""`opsplit up --runtime docker`, two deployments side by side, each with an IPC namespace of its own, and
the commands that work as for processes; then operators in containers beside operators that are processes.

usage: runtime_test.py FOLDER_OF_PROGRAMS. Exit code 77 (skipped) where no engine answers.
"""

import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

from engine import (DIGITS, ROOT, Opsplit, affinity, build_images, check_hardening, containers, cpu_set, eventually, expect,
                    first_image, nothing_left, run, skip_without_engine)


def digit(folder):
    """What the answer in the folder takes the image for."""
    answer = struct.unpack("<10f", (folder / "probabilities.npy").read_bytes()[-40:])
    expect(abs(sum(answer) - 1) < 1e-5, f"no probabilities: {answer}")
    return max(range(10), key=lambda i: answer[i])


def two_deployments_side_by_side(opsplit, scratch):
    image = scratch / "image.npy"
    image.write_bytes(first_image())
    opsplit("up", DIGITS / "digits.yaml", "--runtime", "docker", timeout=300)
    taken = subprocess.run([opsplit.program, "--folder", opsplit.folder, "up", DIGITS / "digits.yaml"],
                           capture_output=True, text=True)
    expect(taken.returncode == 1 and "runs already, in containers" in taken.stderr, f"taken: {taken.stderr}")
    elsewhere = subprocess.run([opsplit.program, "--folder", scratch / "other", "up", DIGITS / "digits.yaml",
                                "--runtime", "docker"], capture_output=True, text=True)
    expect(elsewhere.returncode == 1 and "of another user or --folder" in elsewhere.stderr, elsewhere.stderr)
    opsplit("up", DIGITS / "digits.onnx", "--runtime", "docker", "--split", "stages:2", "--name", "staged", timeout=300)
    shown = opsplit("ps")
    expect("digits: ready in containers" in shown and "staged: ready in containers" in shown, shown)

    label = (DIGITS / "test_labels.npy").read_bytes()[128]
    for name in ("digits", "staged"):
        opsplit("infer", name, "--input", f"image={image}", "--output-dir", scratch / name)
        expect(digit(scratch / name) == label, f"{name}: the image is a {label}")
        for container in run("docker", "ps", "-q", "--filter",
                             f"label=com.docker.compose.project=opsplit-{name}").split():
            found = json.loads(run("docker", "inspect", container))[0]
            own = "shareable" if "anchor" in found["Name"] else "container:"
            check_hardening(found, found["Name"], own)
    opsplit("logs", "staged/stage1")
    opsplit("set", "staged/stage1", "cores=1-1")
    stage = opsplit.instance("staged", "stage1")
    expect(stage["cores"] == "1" and stage["threads"] == 1 and stage["degraded"] == "", f"after set, stage1 is {stage}")
    expect("staged: ready" in opsplit("top", "staged", "--count", "1", "--delay", "0.1"), "top does not show it")

    opsplit("down", "staged", timeout=120)
    expect("staged" not in opsplit("ps"), "it is stopped and shown")
    opsplit("infer", "digits", "--input", f"image={image}", "--output-dir", scratch / "again")
    expect((scratch / "again/probabilities.npy").read_bytes() == (scratch / "digits/probabilities.npy").read_bytes(),
           "another answer after the other deployment's end")
    opsplit("down", timeout=120)
    print("two deployments in containers, side by side: in order")


def operator_image_of_the_host(program, suite, folder):
    """The Dockerfile's target `operator`, but for the build: of the program that is built here, which saves minutes."""
    folder.mkdir()
    run("strip", "-o", str(folder / "opsplit-operator"), str(program))
    libraries = r"""ldd "$0" | awk '$3 ~ /^\// { print $3 }' | xargs -n 1 readlink -f"""
    packages = "dpkg -S 2>/dev/null | cut -d: -f1 | sort -u"  # of those that it knows by this path
    (folder / "operator.packages").write_text(
        run("bash", "-c", f"{libraries} | sed 'p; s|^/usr/|/|' | xargs {packages}", str(program), check=False))
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    begin, end = (dockerfile.index(f"FROM debian:${{SUITE}}-slim AS {stage}\n") for stage in ("build", "operator"))
    (folder / "Dockerfile").write_text(f"{dockerfile[:begin]}FROM debian:${{SUITE}}-slim AS build\n"
                                       "COPY operator.packages /out/\nCOPY opsplit-operator /out/bin/\n"
                                       f"{dockerfile[end:]}")
    image = f"opsplit/operator:{suite}"
    run("docker", "build", "--network=host", "--build-arg", f"SUITE={suite}", "--target", "operator", "-t", image,
        str(folder), timeout=600)
    return image


def operators_beside_processes(opsplit, scratch):
    """Broker and opsplitd on the host; conv is a container of the host's suite, the others are processes."""
    release = dict(line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "").strip('"')
    if suite not in ("bookworm", "trixie"):
        print(f"not tried: operators beside processes need a host of the image's suite, this is {suite or 'unknown'}")
        return
    image = operator_image_of_the_host(opsplit.program.with_name("opsplit-operator"), suite, scratch / "image")
    deployment = scratch / "mixed.yaml"
    deployment.write_text(f"name: mixed\nmodel: {DIGITS}/digits.onnx\n"
                          "operators:\n  conv: {backend: attach, cores: \"0\"}\n")
    # It waits for the deployment, and ends with it.
    conv = run("docker", "run", "-d", "--rm", "--ipc=host", "--pid=host", "--network=none", "--user=0:0", "--cap-drop=ALL",
               "--security-opt=no-new-privileges:true", "--read-only", "-v", "/tmp:/tmp", "--entrypoint",
               "opsplit-operator", image, "--socket", f"{opsplit.folder}/opsplitd.sock", "--deployment", "mixed",
               "--operator", "conv", "--wait", "60").strip()
    try:
        opsplit("up", deployment, timeout=120)
        eventually("conv has attached", lambda: opsplit.instance("mixed", "conv")["state"] == "ready")
        pid = json.loads(run("docker", "inspect", conv))[0]["State"]["Pid"]
        seen = opsplit.instance("mixed", "conv")
        expect(seen["pid"] == pid and seen["state"] == "ready", f"conv is {seen}, its container's process {pid}")
        expect(affinity(pid) == cpu_set("0"), f"conv may run on {affinity(pid)}")
        (scratch / "image.npy").write_bytes(first_image())
        opsplit("infer", "mixed", "--input", f"image={scratch}/image.npy", "--output-dir", scratch / "mixed")
        expect(digit(scratch / "mixed") == (DIGITS / "test_labels.npy").read_bytes()[128], "a wrong answer")
        swapped_for_a_container(opsplit, scratch, image)
        opsplit("down", timeout=60)
        eventually("the operator's container has ended", lambda: conv not in run("docker", "ps", "-q", "--no-trunc"))
    finally:
        opsplit("down", check=False)
        run("docker", "rm", "-f", conv, check=False)
    print(f"a container of {suite} beside processes: in order")


def swapped_for_a_container(opsplit, scratch, image):
    """relu, a process, by a container: its entry point's own socket is another one."""
    before = containers()
    swap = subprocess.Popen([opsplit.program, "--folder", opsplit.folder, "swap", "mixed/relu", "--image", image],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually("relu is served by a container",
               lambda: swap.poll() is not None or opsplit.instance("mixed", "relu").get("backend") == "attach")
    expect(swap.poll() is None, f"swap has ended: {swap.poll() is not None and swap.communicate()}")
    (container,) = containers() - before
    pid = json.loads(run("docker", "inspect", container))[0]["State"]["Pid"]
    expect(opsplit.instance("mixed", "relu")["pid"] == pid, "relu is another process than its container's")
    opsplit("infer", "mixed", "--input", f"image={scratch}/image.npy", "--output-dir", scratch / "swapped")
    expect(digit(scratch / "swapped") == (DIGITS / "test_labels.npy").read_bytes()[128], "a wrong answer")
    opsplit("swap", "mixed/relu", "--backend", "native")
    out, err = swap.communicate(timeout=60)
    expect(swap.returncode == 0, f"swap ended with {swap.returncode}: {out}{err}")
    eventually("relu's container is gone", lambda: container not in containers())

    missing = subprocess.run([opsplit.program, "--folder", opsplit.folder, "swap", "mixed/relu", "--image",
                              "opsplit/no-such-image"], capture_output=True, text=True, timeout=120)
    expect(missing.returncode == 1 and "mixed/relu is served as before" in missing.stderr, f"missing: {missing.stderr}")
    print("an operator swapped for a container and back: in order")


def main():
    skip_without_engine()
    programs = pathlib.Path(sys.argv[1])
    build_images()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="opsplit-runtime-test-"))
    opsplit = Opsplit(programs, scratch / "opsplitd")
    try:
        with nothing_left():
            try:
                two_deployments_side_by_side(opsplit, scratch)
                operators_beside_processes(opsplit, scratch)
            finally:
                opsplit("down", check=False)
    finally:
        shutil.rmtree(scratch)
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
