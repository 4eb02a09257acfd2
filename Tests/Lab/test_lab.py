#!/usr/bin/env python3
"""What the lab does when it cannot be set up, when a machine panics or hangs, and when a scenario is not as it must be:
it never passes silently."""
import os
import subprocess
import sys
import tempfile
import unittest

import checks
import lab as laboratory
import machines
import packages
import scenario
from scenarios import SCENARIOS

HERE = os.path.dirname(os.path.abspath(__file__))


def lab(*arguments, **environment):
    return subprocess.run([sys.executable, "-B", f"{HERE}/lab.py", *arguments], capture_output=True, text=True, check=False,
                          env=os.environ | environment)


class SetUp(unittest.TestCase):
    """Bad set-up says what and why, and exits with 3."""

    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = place.name
        self.tarball = f"{self.folder}/product.tar.gz"
        os.makedirs(f"{self.folder}/product/bin")
        subprocess.run(["tar", "-czf", self.tarball, "-C", self.folder, "product"], check=True)

    def refused(self, done, words):
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertIn(words, done.stdout)
        self.assertNotIn("Traceback", done.stderr)

    def test_no_tarball(self):
        self.refused(lab(f"{self.folder}/absent.tar.gz"), "is no tarball of make dist")

    def test_unknown_machine(self):
        self.refused(lab(self.tarball, "--machine", "vax"), "there is no such machine: vax; there are: amd-6.1")

    def test_nothing_chosen(self):
        self.refused(lab(self.tarball, "--scenario", "no such name"), "no scenario was chosen")
        self.refused(lab(self.tarball, "--machine", "amd-6.1", "--machine", "vax"), "there is no such machine: vax")
        self.refused(lab(self.tarball, "--smoke", "--isa", "intel"), "--smoke is one AMD machine")

    def test_missing_kernel(self):
        path = "/nowhere/linux-image.deb"
        self.refused(lab(self.tarball, "--kernel", path), f"there is no kernel {path}")

    def test_what_is_no_kernel_package(self):
        broken = f"{self.folder}/linux-image.deb"
        with open(broken, "wb") as file:
            file.write(b"no archive")
        self.refused(lab(self.tarball, "--kernel", broken), "is it a Debian package?")

    def test_packages_that_cannot_be_had(self):
        """An empty cache, and an apt that reaches nothing."""
        with open(f"{self.folder}/apt-get", "w", encoding="ascii") as file:
            file.write("#!/bin/sh\necho 'Could not resolve the mirror' >&2\nexit 100\n")
        os.chmod(f"{self.folder}/apt-get", 0o755)
        done = lab(self.tarball, "--smoke", XDG_CACHE_HOME=f"{self.folder}/cache",
                   PATH=f"{self.folder}:{os.environ['PATH']}")
        self.refused(done, "Could not resolve the mirror; is there a network?")

    def test_a_changed_package_is_not_used(self):
        suite = packages.Suite("bookworm")
        suite.folder = f"{self.folder}/suite"
        os.makedirs(f"{suite.folder}/archives")
        with open(suite.path("a.deb"), "wb") as file:
            file.write(b"one")
        suite.write("key", [["a.deb", packages.sha256(suite.path("a.deb"))]])
        self.assertEqual(suite.cached("key"), [suite.path("a.deb")])
        with open(suite.path("a.deb"), "wb") as file:
            file.write(b"two")
        self.assertIsNone(suite.cached("key"))


class Machines(unittest.TestCase):
    """A machine that does not finish is no success, whatever it brought out."""

    def boot(self, script, seconds=5):
        """Runs a machine whose emulator is a script."""
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        emulator = f"{place.name}/qemu-system-x86_64"
        with open(emulator, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\ncd {place.name}\n{script}\n")
        os.chmod(emulator, 0o755)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{place.name}:{path}"
        try:
            machine = machines.Machine("m", "bookworm", "6.1", "smoke", seconds)
            return machines.run(machine, place.name, "kernel", "image", [])
        finally:
            os.environ["PATH"] = path

    def test_a_hung_machine(self):
        booted, trouble, console = self.boot("echo last words >console; exec sleep 60", seconds=1)
        self.assertIsNone(booted)
        self.assertEqual(trouble, "not finished after 1 s")
        self.assertIn("last words", console)

    def test_a_panic(self):
        booted, trouble, console = self.boot("echo Kernel panic >console")
        self.assertIsNone(booted)
        self.assertEqual(trouble, "the scenarios did not run to their end")
        self.assertIn("Kernel panic", console)

    def test_results_without_an_end(self):
        booted, trouble, _ = self.boot("mkdir o; touch o/doctor; tar -cf results -C o .")
        self.assertIsNone(booted)
        self.assertEqual(trouble, "the scenarios did not run to their end")

    def test_a_machine_that_cannot_run_vms(self):
        """That is bad set-up; a guest of ours that fails for another reason is a failure."""
        for reason, is_set_up in (("guest: /dev/kvm is missing", False), ("guest: KVM_RUN: Input/output error", True)):
            booted, trouble, console = self.boot(f"echo 'lab: no VM can run here: {reason}' >console; mkdir o; "
                                                 "echo 1 >o/status; tar -cf results -C o .")
            self.assertIsNone(booted)
            self.assertEqual(trouble, f"lab: no VM can run here: {reason}")
            self.assertEqual(machines.can_run_vms(console), is_set_up)


class Troubles(unittest.TestCase):
    """Which scenarios have a second machine to themselves."""

    def trouble(self, **files):
        with tempfile.TemporaryDirectory() as place:
            os.mkdir(f"{place}/one")
            for name, text in files.items():
                with open(f"{place}/one/{name.replace('_', '.')}", "w", encoding="ascii") as file:
                    file.write(text)
            booted = machines.Booted(laboratory.MACHINES[0], place, "")
            one = scenario.Drawn(scenario.Scenario("one", "true", ()), {})
            return laboratory.Lab.trouble(None, booted, one)

    def test_scenarios_without_an_end(self):
        self.assertEqual(self.trouble(status="0\n", trace_log="fine\n"), "")
        self.assertEqual(self.trouble(status="1\n"), "status 1")
        self.assertEqual(self.trouble(), "status unknown")
        self.assertEqual(self.trouble(status="137\n", late="not finished after 40 s\n"), "not finished after 40 s")

    def test_a_guest_led_astray(self):
        said = "kvmtax: the tiny guest went astray: it did cpuid 48 times, not 24"
        self.assertEqual(self.trouble(status="0\n", trace_log=f"recording\n{said}\ndone\n"), said)
        self.assertEqual(self.trouble(status="0\n", said=said), said)
        # A guest that failed in any other way is no matter of the machine's.
        self.assertEqual(self.trouble(status="0\n", said="kvmtax: the tiny guest did not end within 30 s"), "")


class Scenarios(unittest.TestCase):
    """The scenarios as data."""

    def test_names_are_unique_and_parameters_fit(self):
        self.assertEqual(len({one.name for one in SCENARIOS}), len(SCENARIOS))
        for drawn in scenario.draw(SCENARIOS, "seed"):
            self.assertNotRegex(drawn.script.replace("{ ", ""), r"\{[a-z]+\}", drawn.name)
            self.assertTrue(all(count > 0 for count in drawn.injected().values()), drawn.name)
            self.assertTrue(drawn.scenario.checks, drawn.name)

    def test_one_seed_draws_the_same(self):
        one, same, other = (scenario.draw(SCENARIOS, seed) for seed in ("1", "1", "2"))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)

    def test_nothing_brought_out_fails_every_scenario(self):
        """Each scenario's checks, with nothing at hand."""
        class Booted:
            isa, typed, kernel, reason_codes, reasons = "svm", True, (6, 1), {}, machines.SVM
            machine = machines.Machine("m", "b", "6.1", "all", 1)

            @staticmethod
            def read(_):
                return ""

        for drawn in scenario.draw(SCENARIOS, "seed"):
            run = checks.Run(drawn, "/nonexistent", Booted(), "/bin/false")
            for check in drawn.scenario.checks:
                check(run)
            self.assertTrue(run.failures, f"{drawn.name} passes with nothing brought out")


if __name__ == "__main__":
    unittest.main()
