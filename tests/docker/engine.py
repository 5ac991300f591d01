"""What the container tests share: a real engine, compose projects, and the proof that nothing is left."""

import contextlib
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits"

# Over a compose file of the exporter's: room for a second deployment in the same opsplitd.
ROOM_FOR_TWO = """version: "2.4"
services:
  broker:
    command: [opsplit-broker, --socket, /tmp/opsplit-10001/broker.sock, --pool, 1MiB, --pool, 1MiB]
  opsplitd:
    mem_limit: 1g
"""


def run(*command, check=True, timeout=120, stdin=None):
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=stdin)
    if check and result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def expect(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def eventually(what, condition, seconds=60, explain=lambda: ""):
    """Polls until it holds; returns the seconds that it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() > start + seconds:
            sys.exit(f"FAILED: not within {seconds} s: {what}\n{explain()}")
        time.sleep(0.1)
    return time.monotonic() - start


class Compose:
    """A compose project, of one or several files."""

    def __init__(self, project, *files, command=("docker-compose",)):
        self.project = project
        self.command = [*command, "-p", project, *(f"-f{file}" for file in files)]

    def __call__(self, *arguments, **options):
        return run(*self.command, *arguments, **options)

    def container(self, service):
        ids = run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}",
                  "--filter", f"label=com.docker.compose.service={service}").split()
        expect(len(ids) == 1, f"{len(ids)} containers of {service}")
        return ids[0]

    def inspect(self, service):
        return json.loads(run("docker", "inspect", self.container(service)))[0]

    def pid(self, service):
        return self.inspect(service)["State"]["Pid"]

    def inside(self, *command, **options):
        """Runs a command in opsplitd's container."""
        return run("docker", "exec", self.container("opsplitd"), *command, **options)

    def status(self, deployment="digits"):
        out = self.inside("opsplit", "ps", "--json", check=False)
        known = json.loads(out)["deployments"] if out.startswith("{") else []  # its container may be down
        return next((d for d in known if d["name"] == deployment), {"phase": "", "epoch": 0, "instances": []})

    def instance(self, operator):
        return next((i for i in self.status()["instances"] if i["operator"] == operator), {"state": "", "pid": 0})

    def ready(self):
        return self.status()["phase"] == "ready"

    def logs(self):
        return self("logs", "--no-color", "--tail", "30", check=False)

    def kill(self, service):
        """SIGKILL to the service's process, as the engine sees it: its restart policy applies."""
        run("kill", "-9", str(self.pid(service)))

    def down(self):
        self("down", "-v", "-t", "10", timeout=120)


class Opsplit:
    """The command, with an opsplitd folder of its own."""

    def __init__(self, programs, folder):
        self.program = programs / "opsplit"
        self.folder = folder

    def __call__(self, *arguments, **options):
        return run(str(self.program), "--folder", str(self.folder), *map(str, arguments), **options)

    def status(self, name):
        out = self("ps", "--json", check=False)
        known = json.loads(out)["deployments"] if out.startswith("{") else []
        return next((d for d in known if d["name"] == name), {"phase": "", "instances": []})

    def instance(self, name, operator):
        return next((i for i in self.status(name)["instances"] if i["operator"] == operator), {"state": "", "pid": 0})


def first_image():
    """The first test image of the digits as the network takes it: the bytes of a .npy file."""
    pixels = (DIGITS / "test_images.npy").read_bytes()[128:192]
    description = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 8, 8), }"
    return (b"\x93NUMPY\1\0" + struct.pack("<H", 118) + f"{description:<117}\n".encode() +
            struct.pack("<64f", *(p / 16 for p in pixels)))


def classified(output):
    found = re.search(r"accuracy ([0-9.]+) %", output)
    return float(found.group(1)) if found else 0.0


class Clients(threading.Thread):
    """Clients, one after the other, while things die. Each gets its answers or a typed error, in time."""

    def __init__(self, opsplitd, data="/deployment"):
        """`opsplitd`: its container, where they run; `data`: where the test images are, in there."""
        super().__init__()
        self.opsplitd = opsplitd
        self.data = data
        self.ends = {}  # last words, and how often
        self.silent = 0
        self.wrong = 0
        self.stop = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()

    def run(self):
        while not self.stop.is_set():
            end = subprocess.run(["docker", "exec", "-w", self.data, self.opsplitd, "timeout", "60",
                                  "digits-classify", "--data", "."], capture_output=True, text=True)
            words = "answered" if end.returncode == 0 else end.stderr.strip().split("\n")[-1]
            self.wrong += words == "answered" and classified(end.stdout) < 97
            self.silent += words != "answered" and not words.startswith("digits-classify: ")
            self.ends[words] = self.ends.get(words, 0) + 1


def affinity(pid):
    """The CPUs that the threads of a process may use."""
    cpus = set()
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        cpus |= cpu_set(re.search(r"Cpus_allowed_list:\s*(\S+)", status.read_text()).group(1))
    return cpus


def cpu_set(text):
    cpus = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus |= set(range(int(first), int(last or first) + 1))
    return cpus


def check_hardening(found, name, ipc):
    """`found`: what `docker inspect` says of a container."""
    host, config = found["HostConfig"], found["Config"]
    expect(config["User"] == "10001:10001", f"{name} runs as {config['User']}")
    expect(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{name}: capabilities")
    expect(any(o.startswith("no-new-privileges") for o in host["SecurityOpt"]), f"{name}: new privileges")
    expect(host["ReadonlyRootfs"], f"{name}: its root can be written")
    expect(host["NetworkMode"] == "none", f"{name}: network {host['NetworkMode']}")
    expect(host["IpcMode"].startswith(ipc), f"{name}: IPC {host['IpcMode']}")
    expect(host["Memory"] > 0, f"{name}: no memory limit")
    expect(not host["Privileged"], f"{name}: privileged")
    expect("docker.sock" not in json.dumps(found["Mounts"]), f"{name} sees the engine's socket")


def skip_without_engine():
    """Ends with 77, which CTest reports as skipped, where no engine answers."""
    missing = [p for p in ("docker", "docker-compose") if not shutil.which(p)]
    if missing or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        print(f"skipped: {'no ' + missing[0] if missing else 'no Docker engine answers'}")
        sys.exit(77)


def build_images():
    """Images stay, so that the next build is quick: `docker image rm opsplit/opsplitd opsplit/operator`."""
    Compose("opsplit-test", ROOT / "compose.ipc.yaml")("build", timeout=3000)


def containers():
    return set(run("docker", "ps", "-aq").split())


def volumes():
    return set(run("docker", "volume", "ls", "-q").split())


def shared_memory():
    return {p.name for p in pathlib.Path("/dev/shm").iterdir()}


@contextlib.contextmanager
def nothing_left():
    """What is there afterwards was there before: containers, volumes, files in /dev/shm."""
    before = containers(), volumes(), shared_memory()
    yield
    for what, had, has in zip(("containers", "volumes", "in /dev/shm"), before,
                              (containers(), volumes(), shared_memory())):
        expect(has <= had, f"left {what}: {sorted(has - had)}")
