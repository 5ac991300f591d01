#!/usr/bin/env python3
"""compose.ipc.yaml with a real engine: build, up, the accuracy, the hardening, a kill, down.

Exit code 77 (skipped) where no engine answers or docker-compose is missing. Leaves no container, volume or file in
/dev/shm; the images stay, for the next build to be quick (`docker image rm opsplit/opsplitd opsplit/operator`).
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE = ["docker-compose", "-p", "opsplit-test", "-f", str(ROOT / "compose.ipc.yaml")]
OPERATORS = ["conv", "relu", "maxpool", "gemm", "softmax"]
SERVICES = ["anchor", "opsplitd", *OPERATORS, "client"]


def run(*command, check=True, timeout=120):
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def compose(*arguments, **options):
    return run(*COMPOSE, *arguments, **options)


def container(service):
    return compose("ps", "-q", service).strip()


def inspect(service):
    return json.loads(run("docker", "inspect", container(service)))[0]


def eventually(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}\n{compose('logs', '--no-color', check=False)}")
        time.sleep(0.2)


def status():
    out = run("docker", "exec", container("opsplitd"), "opsplit", "ps", "--json", check=False)
    return json.loads(out)["deployments"][0] if out.strip() else {"phase": "", "instances": []}


def instance(operator):
    return next((i for i in status()["instances"] if i["operator"] == operator), {"state": "", "pid": 0})


def shared_memory():
    return {p.name for p in pathlib.Path("/dev/shm").iterdir()}


def expect(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def check_hardening(service):
    found = inspect(service)
    host, config = found["HostConfig"], found["Config"]
    expect(config["User"] == "10001:10001", f"{service} runs as {config['User']}")
    expect(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{service}: capabilities")
    expect(any(o.startswith("no-new-privileges") for o in host["SecurityOpt"]), f"{service}: new privileges")
    expect(host["ReadonlyRootfs"], f"{service}: its root can be written")
    expect(host["NetworkMode"] == "none", f"{service}: network {host['NetworkMode']}")
    expect(host["IpcMode"] == "host", f"{service}: IPC {host['IpcMode']}")
    expect(host["Memory"] > 0, f"{service}: no memory limit")
    expect(not host["Privileged"], f"{service}: privileged")
    expect("docker.sock" not in json.dumps(found["Mounts"]), f"{service} sees the engine's socket")


def classified():
    found = re.search(r"accuracy ([0-9.]+) %", compose("logs", "--no-color", "client"))
    return float(found.group(1)) if found else 0.0


def test():
    compose("up", "-d", timeout=300)
    eventually("the client has ended well", lambda: not inspect("client")["State"]["Running"] and classified() > 0)
    print(f"accuracy {classified()} %")
    expect(classified() >= 97, f"accuracy {classified()} %")
    for service in SERVICES:
        check_hardening(service)

    # opsplitd confines operators of other containers: their CPUs are those that it says.
    for operator in OPERATORS:
        seen = instance(operator)
        pid = inspect(operator)["State"]["Pid"]
        allowed = re.search(r"Cpus_allowed_list:\s*(\S+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)
        expect(allowed == seen["cores"], f"{operator} may run on {allowed}, not {seen['cores']}")

    before = instance("conv")["pid"]
    start = time.monotonic()
    run("docker", "exec", container("opsplitd"), "sh", "-c", f"kill -9 {before}")
    eventually("conv is back", lambda: instance("conv")["state"] == "ready" and instance("conv")["pid"] != before)
    print(f"conv was killed, and ready again after {time.monotonic() - start:.1f} s")
    again = compose("run", "--rm", "client")
    expect("accuracy" in again, "no answers after the kill")

    start = time.monotonic()
    run("docker", "kill", container("opsplitd"))
    run("docker", "start", container("opsplitd"))
    eventually("the deployment is ready again", lambda: status()["phase"] == "ready", 90)
    print(f"opsplitd's container was killed and started, and the deployment ready again after {time.monotonic() - start:.1f} s")
    expect("accuracy" in compose("run", "--rm", "client"), "no answers after opsplitd's death")


def main():
    if not shutil.which("docker-compose") or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        print("skipped: no Docker engine, or no docker-compose")
        return 77
    before = shared_memory()
    compose("build", timeout=3000)
    try:
        test()
        # SIGTERM, so that opsplitd ends the deployment and leaves nothing.
        compose("stop", "-t", "10", "opsplitd", timeout=60)
    finally:
        compose("down", "-v", "-t", "5", timeout=120)
    left = sorted(shared_memory() - before)
    expect(not left, f"left in /dev/shm: {left}")
    expect(not run("docker", "ps", "-aq", "--filter", "name=opsplit-test").strip(), "containers are left")
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
