#!/usr/bin/env python3
"""compose.ipc.yaml with Compose v2, which Debian 13 has: a smoke test, from a container that sees the
engine's socket. Exit code 77 (skipped) where no engine answers."""

import re
import sys

from engine import ROOT, Compose, build_images, eventually, expect, nothing_left, run, skip_without_engine


def main():
    skip_without_engine()
    build_images()
    with nothing_left():
        tool = run("docker", "run", "-d", "--init", "--network=host", "-v", "/var/run/docker.sock:/var/run/docker.sock", "-v",
                   f"{ROOT}:{ROOT}:ro", "-w", str(ROOT), "debian:trixie-slim", "sleep", "3600").strip()

        compose = Compose("opsplit-v2", "compose.ipc.yaml", command=("docker", "exec", tool, "docker-compose"))
        try:
            run("docker", "exec", tool, "sh", "-c", "apt-get update -qq && apt-get install -y -qq "
                "--no-install-recommends docker-compose >/dev/null", timeout=600)
            print(compose("version").strip())
            try:
                compose("up", "-d", "--no-build")
                eventually("the client has classified", lambda: "accuracy" in compose("logs", "client"),
                           explain=compose.logs)
                accuracy = float(re.search(r"accuracy ([0-9.]+) %", compose("logs", "client")).group(1))
                print(f"accuracy {accuracy} %")
                expect(accuracy >= 97, f"accuracy {accuracy} %")
            finally:
                compose.down()
        finally:
            run("docker", "rm", "-f", tool, check=False)
    print("in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
