#!/usr/bin/env python3
"""compose.ipc.yaml with a real engine: build, up, the accuracy, the hardening, deaths, the hop, down.

Exit code 77 (skipped) where no engine answers or docker-compose is missing. Prints the times that it measures.
"""

import base64
import json
import pathlib
import statistics
import struct
import sys
import tempfile
import time

from engine import (DIGITS, ROOM_FOR_TWO, ROOT, Clients, Compose, affinity, build_images, check_hardening, classified,
                    cpu_set, eventually, expect, first_image, nothing_left, run, skip_without_engine)

OPERATORS = ["conv", "relu", "maxpool", "gemm", "softmax"]
SERVICES = ["anchor", "broker", "opsplitd", *OPERATORS, "client"]


def images_are_small():
    """Megabytes that they add to the image that they begin with."""
    def size(image):
        return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image)) / 1e6

    for image, most in (("opsplit/operator", 120), ("opsplit/opsplitd", 150)):
        added = size(image) - size("debian:trixie-slim")
        print(f"{image} adds {added:.0f} MB to debian:trixie-slim (at most {most})")
        expect(added <= most, f"{image} adds {added:.0f} MB")


def client_classifies(compose):
    def ended():
        state = compose.inspect("client")["State"]
        return not state["Running"] and state["ExitCode"] == 0 and not state["Restarting"]

    eventually("the client has ended well", ended, explain=compose.logs)
    accuracy = classified(compose("logs", "--no-color", "client"))
    print(f"accuracy {accuracy} %")
    expect(accuracy >= 97, f"accuracy {accuracy} %")


def classifies_again(compose):
    accuracy = classified(compose("run", "--rm", "client"))
    expect(accuracy >= 97, f"accuracy {accuracy} % after the kill")


def containers_are_hardened_and_confined(compose):
    for service in SERVICES:
        check_hardening(compose.inspect(service), service, "host")
    for operator in OPERATORS:
        seen = cpu_set(compose.instance(operator)["cores"])
        really = affinity(compose.pid(operator))
        expect(really == seen, f"{operator} may run on {really}, not {seen}")


def set_moves_a_container(compose):
    """Without a capability, from another container; and what was set holds for the next life."""
    compose.inside("opsplit", "set", "digits/conv", "cores=1-1")
    expect(affinity(compose.pid("conv")) == {1}, f"after set, conv may run on {affinity(compose.pid('conv'))}")
    operator_killed(compose)
    expect(affinity(compose.pid("conv")) == {1}, f"after its death, conv may run on {affinity(compose.pid('conv'))}")


def answers_are_those_of_processes(compose):
    """In the same image, but one container. To the rounding: each measures which kernels are the fastest."""
    def probabilities(text):
        content = bytes.fromhex("".join(text.split()))
        expect(len(content) == 128 + 40, f"an answer of {len(content)} bytes")
        return struct.unpack("<10f", content[128:])

    script = (f"cd $(mktemp -d) && echo {base64.b64encode(first_image()).decode()} | base64 -d >x.npy && "
              "opsplit %s --input image=x.npy --output-dir out >&2 && od -An -tx1 -v out/probabilities.npy")
    containers = compose.inside("sh", "-c", script % "infer digits")
    processes = run("docker", "run", "--rm", "--network=none", "--shm-size=512m", "-v",
                    f"{DIGITS}:/deployment:ro", "opsplit/opsplitd", "sh", "-c",
                    script % "run /deployment/digits.onnx --split by-type")
    differences = [abs(a - b) for a, b in zip(probabilities(containers), probabilities(processes))]
    expect(max(differences) < 1e-5, f"other answers than as processes, by {max(differences)}")


def operator_killed(compose):
    before = compose.instance("conv")["pid"]
    compose.kill("conv")
    took = eventually(
        "conv is back", lambda: compose.instance("conv")["state"] == "ready" and
        compose.instance("conv")["pid"] != before, explain=compose.logs)
    print(f"conv was killed, and ready again after {took:.1f} s (goal: 3 s)")
    classifies_again(compose)


def operator_runs_out_of_memory(compose):
    """conv's container reaches its limit, and the kernel ends conv: it is back, and nobody else has ended."""
    since = int(time.time())
    before = {op: compose.instance(op)["pid"] for op in OPERATORS}
    conv = compose.container("conv")
    # Else the kernel would choose the greedy one.
    pathlib.Path(f"/proc/{compose.pid('conv')}/oom_score_adj").write_text("1000")
    run("docker", "exec", "--detach", conv, "tail", "/dev/zero")
    eventually("conv is back", lambda: compose.instance("conv")["state"] == "ready" and
               compose.instance("conv")["pid"] != before["conv"], explain=compose.logs)
    seen = run("docker", "events", f"--since={since}", f"--until={int(time.time()) + 1}", "--filter=event=oom",
               f"--filter=container={conv}")
    expect("oom" in seen, "conv ended, but not for want of memory")
    after = {op: compose.instance(op)["pid"] for op in OPERATORS}
    expect(all(before[op] == after[op] for op in OPERATORS if op != "conv"),
           f"others have ended, too: {before}, now {after}")
    print("conv ran out of memory, and is back")
    classifies_again(compose)


def opsplitd_killed(compose):
    before = {op: compose.instance(op)["pid"] for op in OPERATORS}
    compose.kill("opsplitd")
    took = eventually("the deployment is ready again", lambda: compose.ready(), 90, compose.logs)
    print(f"opsplitd was killed, and the deployment ready again after {took:.1f} s")
    after = {op: compose.instance(op)["pid"] for op in OPERATORS}
    expect(before == after, f"the successor takes over what runs: {before}, now {after}")
    classifies_again(compose)


def broker_killed(compose, times):
    clients = Clients(compose.container("opsplitd"))
    took = []
    with clients:
        for _ in range(times):
            # The engine's pause before a restart doubles until a container has run for 10 s.
            before = compose.status()["epoch"]
            time.sleep(11)
            compose.kill("broker")
            took.append(eventually(
                "the deployment is ready in a new epoch",
                lambda: compose.ready() and compose.status()["epoch"] > before, 90, compose.logs))
    print(f"the broker was killed {times} times; ready again after "
          f"{statistics.median(took):.1f} s (median), {max(took):.1f} s (worst; goal: 10 s)")
    print(f"clients meanwhile: {clients.ends}")
    expect(clients.wrong == 0, "a client got wrong answers")
    expect(clients.silent == 0, "a client got neither answers nor an error")
    expect(clients.ends.get("answered", 0) > 0, "no client got answers")
    classifies_again(compose)


def overhead_per_hop(trace):
    """Microseconds: the request's latency without its tasks' runs, per hop; the median."""
    events = json.loads(trace)["traceEvents"]
    runs, tasks = {}, {}
    for event in events:
        if event["ph"] == "X" and event.get("cat") == "task":
            request = event["args"]["request"]
            runs[request] = runs.get(request, 0) + event["dur"]
            tasks[request] = tasks.get(request, 0) + 1
    latency = {e["args"]["request"]: e["dur"] for e in events if e["ph"] == "X" and e.get("cat") == "request"}
    expect(latency and runs.keys() == latency.keys(), "a trace without requests")
    return statistics.median((latency[r] - runs[r]) / (tasks[r] + 1) for r in latency)


def hop_between_containers(compose):
    """Against operators that are processes of one container, in one run, by turns.

    The client runs on the core where operators wait: left to itself it is here and there, and a core that is to be woken
    costs more than all hops of a request."""
    compose.inside("opsplit", "up", "/deployment/digits.yaml", "--name", "processes")
    core = min(cpu_set(compose.instance("conv")["cores"]))
    hops = {"digits": [], "processes": []}
    for _ in range(10):
        for name, samples in hops.items():
            samples.append(overhead_per_hop(compose.inside(
                "sh", "-c", f"taskset -c {core} opsplit trace {name} --requests 200 -o /tmp/trace.json >&2 && "
                "cat /tmp/trace.json")))
    compose.inside("opsplit", "down", "processes")
    containers, processes = (statistics.median(samples) for samples in hops.values())
    print(f"hop between containers {containers:.1f} us, between processes {processes:.1f} us: "
          f"{containers / processes:.2f} x (goal: 1.1 x)")


def main():
    skip_without_engine()
    build_images()
    images_are_small()
    with nothing_left(), tempfile.NamedTemporaryFile("w", suffix=".yaml") as override:
        override.write(ROOM_FOR_TWO)
        override.flush()
        compose = Compose("opsplit-test", ROOT / "compose.ipc.yaml", override.name)
        try:
            compose("up", "-d", timeout=300)
            client_classifies(compose)
            containers_are_hardened_and_confined(compose)
            answers_are_those_of_processes(compose)
            hop_between_containers(compose)
            set_moves_a_container(compose)
            operator_runs_out_of_memory(compose)
            opsplitd_killed(compose)
            broker_killed(compose, times=10)
        finally:
            compose.down()
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
