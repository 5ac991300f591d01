#!/usr/bin/env python3
"""`opsplit swap` of deployments in containers, while clients ask: of one that `up --runtime docker` made, and of a
compose project that the user keeps.

usage: swap_test.py FOLDER_OF_PROGRAMS. Exit code 77 (skipped) where no engine answers.
"""

import contextlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from engine import (DIGITS, Clients, Compose, Opsplit, build_images, check_hardening, eventually, expect, nothing_left,
                    run, skip_without_engine)

# Made from opsplit/operator: what serves as well, and what does not get there.
OTHER = "opsplit-test/other"
IMAGES = {
    OTHER: "LABEL other=yes",
    "opsplit-test/as-root": "USER root",
    "opsplit-test/ends": 'ENTRYPOINT ["sh", "-c", "echo cannot find what it needs >&2; exit 3"]',
    "opsplit-test/silent": 'ENTRYPOINT ["false"]',
    "opsplit-test/no-program": 'ENTRYPOINT ["/no/such/program"]',
    "opsplit-test/other-socket": 'ENTRYPOINT ["opsplit-operator", "--socket", "/tmp/no/such.sock"]',
    # It attaches, and cannot load: its address space is too small.
    "opsplit-test/too-small": 'ENTRYPOINT ["sh", "-c", "ulimit -v 100000; exec opsplit-operator --socket '
                              '/tmp/opsplit-10001/opsplitd.sock --wait 60 $0 $1 $2 $3"]',
    "opsplit-test/never-attaches": 'ENTRYPOINT ["sh", "-c", "exec sleep 1000"]',  # which must not see its arguments
}


def build_test_images():
    for image, change in IMAGES.items():
        run("docker", "build", "-t", image, "-", stdin=f"FROM opsplit/operator\n{change}\n")


class Project(Compose):
    """Also one whose compose files only opsplit knows."""

    def __init__(self, project, name, opsplit, *files):
        super().__init__(project, *files)
        self.name = name
        self.opsplit = opsplit

    def ids(self, service):
        return set(run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}",
                       "--filter", f"label=com.docker.compose.service={service}").split())

    def all(self):
        return set(run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}").split())

    def image(self, service):
        return self.inspect(service)["Config"]["Image"]

    def command_line(self, operator, *arguments):
        return [str(self.opsplit.program), "--folder", str(self.opsplit.folder), "swap", f"{self.name}/{operator}",
                *arguments]

    def swap(self, operator, *arguments):
        return subprocess.run(self.command_line(operator, *arguments), capture_output=True, text=True, timeout=120)

    def state(self, operator):
        return [i["state"] for i in self.status(self.name)["instances"] if i["operator"] == operator]


@contextlib.contextmanager
def clients_of(project):
    """One after the other; none gets anything but right answers, and they do get some."""
    with Clients(project.container("opsplitd")) as clients:
        eventually("clients get answers", lambda: clients.ends)
        yield
        before = sum(clients.ends.values())  # one may be at it
        eventually("clients get answers afterwards", lambda: sum(clients.ends.values()) > before + 1)
    print(f"clients meanwhile: {clients.ends}")
    expect(set(clients.ends) == {"answered"}, f"clients' ends: {clients.ends}")
    expect(clients.wrong == 0, "a client got wrong answers")


def serves(project, operator, image):
    """One container, of this image, made as those of the other operators are; the only one that there is."""
    found = project.inspect(operator)  # of one container
    expect(found["Config"]["Image"] == image, f"{operator} is made from {found['Config']['Image']}")
    check_hardening(found, operator, "container:")
    other = project.inspect("conv" if operator != "conv" else "gemm")
    for setting in ("PidMode", "IpcMode", "Binds", "RestartPolicy", "PidsLimit"):
        expect(found["HostConfig"][setting] == other["HostConfig"][setting],
               f"{setting}: {found['HostConfig'][setting]}, not {other['HostConfig'][setting]}")
    expect(project.state(operator) == ["ready"], f"{operator} is {project.state(operator)}")


def swapped_while_clients_ask(project):
    with clients_of(project):
        done = project.swap("relu", "--image", OTHER)
    expect(done.returncode == 0 and "ready" in done.stdout, f"swap: {done.stdout}{done.stderr}")
    serves(project, "relu", OTHER)
    expect(project.inspect("relu")["HostConfig"]["Memory"] > project.inspect("conv")["HostConfig"]["Memory"],
           "no room for a framework in an image that nobody knows")


def whoever_fails_leaves_the_other_serving(project):
    before = project.all()
    reasons = {"opsplit-test/ends": "opsplit-test/ends: cannot find what it needs",
               "opsplit-test/silent": "it ended without a word", "opsplit-test/no-program": "/no/such/program",
               "opsplit-test/other-socket": "/tmp/no/such.sock", "opsplit-test/too-small": "opsplit-test/too-small: ",
               "opsplit-test/not-built": "docker has no image opsplit-test/not-built"}
    with clients_of(project):
        for image, reason in reasons.items():
            failed = project.swap("relu", "--image", image)
            expect(failed.returncode == 1 and reason in failed.stderr, f"{image}: {failed.stdout}{failed.stderr}")
            print(failed.stderr.strip().split("\n")[-1])
            expect("is served as before" in failed.stderr or "docker has no image" in failed.stderr, failed.stderr)
            expect(project.all() == before, f"{image}: other containers than before")
    expect(project.swap("nobody", "--image", OTHER).returncode == 1, "an operator that is not there was swapped")
    program = project.swap("relu", "--", "true")
    expect(program.returncode == 1 and "make an image" in program.stderr, f"a program: {program.stderr}")
    serves(project, "relu", OTHER)


def given_up(project):
    """By SIGINT nothing is left; after SIGKILL the next swap finds its way."""
    before = project.all()
    for number in (signal.SIGINT, signal.SIGKILL):
        swap = subprocess.Popen(project.command_line("relu", "--image", "opsplit-test/never-attaches"),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        eventually("another container is there", lambda: swap.poll() is not None or len(project.ids("relu")) == 2)
        busy = project.swap("conv", "--image", OTHER)
        expect(busy.returncode == 1 and "is being swapped just now" in busy.stderr, f"busy: {busy.stderr}")
        swap.send_signal(number)
        _, err = swap.communicate(timeout=60)
        if number == signal.SIGINT:
            expect(swap.returncode == 1 and "stopped: digits/relu is served as before" in err, err)
            expect(project.all() == before, "other containers than before")
    eventually("opsplitd has given it up", lambda: project.state("relu") == ["ready"])
    done = project.swap("relu", "--image", "opsplit-test/as-root")
    expect(done.returncode == 0, f"after SIGKILL: {done.stderr}")
    serves(project, "relu", "opsplit-test/as-root")


def lasts(project, file):
    """The engine's restarts, the next epoch, and docker-compose take it for what the file says."""
    before = project.all()
    first = project.inspect("relu")["State"]["Pid"]
    project.kill("relu")
    eventually("relu is back", lambda: project.inspect("relu")["State"]["Pid"] not in (0, first) and
               project.state("relu") == ["ready"])
    epoch = project.status()["epoch"]
    project.kill("broker")
    eventually("the next epoch is ready with it", lambda: project.status()["epoch"] > epoch and project.ready() and
               project.state("relu") == ["ready"])
    run("docker-compose", "-p", project.project, "-f", str(file), "up", "-d", "--no-build")
    expect(project.all() == before, "docker-compose up made other containers")
    back = project.swap("relu", "--backend", "native")
    expect(back.returncode == 0, f"back: {back.stderr}")
    serves(project, "relu", "opsplit/operator")


def in_containers_of_up(opsplit, scratch):
    project = Project("opsplit-digits", "digits", opsplit)
    opsplit("up", DIGITS / "digits.yaml", "--runtime", "docker", timeout=300)
    try:
        swapped_while_clients_ask(project)
        whoever_fails_leaves_the_other_serving(project)
        given_up(project)
        lasts(project, scratch / "opsplitd/containers/digits/compose.yaml")
    finally:
        opsplit("down", timeout=120)
    print("swapped in a deployment of `up --runtime docker`: in order")


def in_a_project_of_the_users(opsplit, scratch):
    """Its file stays as it is; and an operator of two instances."""
    deployment, file = scratch / "two.yaml", scratch / "compose.yaml"
    deployment.write_text("name: two\nmodel: digits.onnx\noperators:\n  relu: {instances: 2}\n")
    for name in ("digits.onnx", "test_images.npy", "test_labels.npy"):
        shutil.copy(DIGITS / name, scratch / name)
    opsplit("export", "compose", deployment, "--ipc", "own", "-o", file)
    written = file.read_text()
    project = Project("opsplit-two", "two", opsplit, file)
    try:
        project("up", "-d")
        eventually("the deployment is ready", lambda: project.status("two")["phase"] == "ready")
        before = project.ids("relu")
        done = project.swap("relu", "--image", OTHER)
        expect(done.returncode == 0, f"swap: {done.stderr}")
        after = project.ids("relu")
        images = {json.loads(run("docker", "inspect", i))[0]["Config"]["Image"] for i in after}
        expect(len(after) == 2 and not after & before and images == {OTHER}, f"relu runs in {after} of {images}")
        expect(file.read_text() == written, "the user's file has changed")
        line = done.stdout.strip().split("\n")[-1].strip()
        expect(f"{file} is yours" in done.stdout and line.startswith(f"image: {OTHER}"), done.stdout)

        file.write_text(written.replace("\n  relu: {", f"\n  relu: {{{line}, "))
        project("up", "-d")
        images = {json.loads(run("docker", "inspect", i))[0]["Config"]["Image"] for i in project.ids("relu")}
        expect(images == {OTHER}, f"after `up` relu runs in {images}")
        eventually("the deployment is ready again", lambda: project.state("relu") == ["ready", "ready"])
    finally:
        project.down()
    print("swapped in a compose project of the user's: in order")


def main():
    skip_without_engine()
    programs = pathlib.Path(sys.argv[1])
    build_images()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="opsplit-swap-test-"))
    scratch.chmod(0o755)
    opsplit = Opsplit(programs, scratch / "opsplitd")
    try:
        with nothing_left():
            build_test_images()
            in_containers_of_up(opsplit, scratch)
            in_a_project_of_the_users(opsplit, scratch)
    finally:
        shutil.rmtree(scratch)
        run("docker", "image", "rm", "--force", *IMAGES, check=False)
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
