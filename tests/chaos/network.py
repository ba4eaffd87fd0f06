# SPDX-License-Identifier: Apache-2.0
"""The network between the coordinator and the workers: cut, cut one way, and flapping."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import time

PORT = 7171


def _ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Link:
    """A network namespace for the workers, joined to the coordinator's by one cable."""

    def __init__(self, folder):
        tag = os.getpid() % 10_000
        self.namespace = f"lockstep-chaos-{tag}"
        self._here, self._there = f"lsc{tag}a", f"lsc{tag}b"
        net = f"10.213.{tag % 250}"
        self.here, self.there = f"{net}.1", f"{net}.2"
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self.namespace)
        for inside, device, address in ([], self._here, self.here), (["-n", self.namespace], self._there, self.there):
            _ip(*inside, "address", "add", f"{address}/30", "dev", device)
            _ip(*inside, "link", "set", device, "up")
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        self._mac_here = self._mac(_ip("-o", "link", "show", self._here))
        self._mac_there = self._mac(_ip("-n", self.namespace, "-o", "link", "show", self._there))
        self.set(True, True)
        self.mpirun = pathlib.Path(folder) / "mpirun-in-namespace"
        self.mpirun.write_text(f'#!/bin/sh\nexec ip netns exec {self.namespace} {shutil.which("mpirun")} "$@"\n')
        self.mpirun.chmod(0o755)

    @staticmethod
    def _mac(text):
        return re.search(r"link/ether ([0-9a-f:]+)", text).group(1)

    def set(self, to_workers, to_coordinator):
        """Which way packets pass. Those sent to a wrong hardware address are lost without a word to either side."""
        nowhere = "02:00:00:00:00:99"
        _ip("neigh", "replace", self.there, "lladdr", self._mac_there if to_workers else nowhere, "dev", self._here,
            "nud", "permanent")
        _ip("-n", self.namespace, "neigh", "replace", self.here, "lladdr",
            self._mac_here if to_coordinator else nowhere, "dev", self._there, "nud", "permanent")

    def close(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "delete", self._here)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", self.namespace)


def _cut(link, run, kind, seconds):
    """Returns the moment from which all packets pass again."""
    try:
        if kind == "flapping":
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                link.set(False, False)
                run.watcher.pause(run.lab.random.uniform(0.05, 0.3))
                link.set(True, True)
                run.watcher.pause(run.lab.random.uniform(0.05, 0.3))
        else:
            link.set(to_workers=kind == "to coordinator", to_coordinator=kind == "to workers")
            run.watcher.pause(seconds)
    finally:
        link.set(True, True)
    return time.time()


def partition(lab, row, count, shortest, longest):
    """Cut both ways, one way, the other way, and flapping, in turn. Recovery is from the healing on."""
    kinds = ["both", "to workers", "to coordinator", "flapping"]
    started_again = []
    try:
        link = Link(lab.root)
    except (OSError, subprocess.CalledProcessError) as error:
        row.not_run = f"no network namespaces here: {getattr(error, 'stderr', '') or error}"
        return

    def strike(run):
        kind = kinds[row.count % len(kinds)]
        generation = run.generation()
        healed = _cut(link, run, kind, lab.random.uniform(shortest, longest))
        run.recovered(healed)
        if run.watcher.state()[2] != generation:
            started_again.append(kind)

    try:
        options = ["--worker-listen", f"{link.here}:{PORT}", "--insecure", "--mpirun", link.mpirun]
        with lab.coordinator(options=options) as coordinator:
            lab.strike(row, coordinator, count, strike, lasts=longest + 1)
    finally:
        link.close()
    row.notes.append(f"cuts of {shortest:g} to {longest:g} s, both ways, one way and flapping; "
                     f"{len(started_again)} of {row.count} led to a new group")
