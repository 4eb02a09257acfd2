"""What a scenario is: a guest, a load whose parameters are drawn at random, how it is recorded, what must come of it."""
import dataclasses
import random
import shlex

# Tools that the lab compares with.
BESIDE = {"perf": "perf record -q -a -e kvm:kvm_exit -o perf.data --",
          "trace-cmd": "trace-cmd record -q -e kvm:kvm_exit -e kvm:kvm_entry -o trace.dat"}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One scenario. `script` is what runs in the machine (shell, with the verbs of machine/lib.sh), with {parameters};
    `draws` gives each parameter's range; `checks` are functions of checks.py, called with what came out."""
    name: str
    script: str
    checks: tuple
    draws: dict = dataclasses.field(default_factory=dict)
    # What is injected, as class (attribution) or reason and the count that the parameters give: {"EPT.populate": "2*n"}.
    injects: dict = dataclasses.field(default_factory=dict)
    # Sets of scenarios that it belongs to; a machine runs one set.
    sets: tuple = ("all",)
    seconds: int = 40
    # Only where the typed programs fit.
    needs_typed: bool = False


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A scenario with its parameters."""
    scenario: Scenario
    parameters: dict

    @property
    def name(self):
        return self.scenario.name

    @property
    def script(self):
        return ". /lab/lib.sh\n" + self.scenario.script.format(**self.parameters).strip() + "\n"

    def injected(self):
        """What is injected and how often, computed from the parameters."""
        return {what: eval(count, {"__builtins__": {}}, dict(self.parameters))  # pylint: disable=eval-used
                for what, count in self.scenario.injects.items()}

    def told(self):
        return " ".join(f"{name}={value}" for name, value in self.parameters.items())


def draw(scenarios, seed):
    """Draws every scenario's parameters; the same seed draws the same."""
    drawn = []
    for scenario in scenarios:
        source = random.Random(f"{seed} {scenario.name}")
        drawn.append(Drawn(scenario, {name: source.randint(*span) for name, span in scenario.draws.items()}))
    return drawn


def tiny(options, record="", beside=None):
    """The script that records a tiny guest of these options; the tracer attaches before the VM exists and stops after it
    is gone. `beside` is a tool (of BESIDE) that records the same exits."""
    command = f"record trace {record} -- /bin/sh -c {shlex.quote('. /lab/lib.sh; tiny ' + options)}"
    if beside:
        command = f"{BESIDE[beside]} sh -c {shlex.quote('. /lab/lib.sh; ' + command)}"
    return f"begin_witness\n{command}\nend_witness\n"
