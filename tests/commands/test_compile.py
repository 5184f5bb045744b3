"""What `nplp compile` compiles: all that a run in one process on the processor calls."""

CALLED_ELSEWHERE = {
    "_drop_beyond_reach",  # several processes
    "_join",
    "_tighten",
    "_offer_pairs",  # a GPU
    "half_rows",
    "_keep_nearest",  # clusterers without epsilon
    "_sums_of",  # scores that rounding cannot tell apart
}
NEVER_CALLED = """
import pkgutil
from importlib import import_module
import nplp.clustering, nplp.evaluation
from nplp.clustering.sweep.compiling import Kernel
from nplp_commands.main import command_line

command_line(["compile"])
kernels = {}
for package in (nplp.clustering, nplp.evaluation):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = import_module(found.name)
        kernels.update({name: value for name, value in vars(module).items() if isinstance(value, Kernel)})
waiting = [name for name, kernel in kernels.items() if kernel.dispatcher.signatures]
called = set()
while waiting:
    called.add(name := waiting.pop())
    # A kernel that was kept holds those that it calls.
    waiting += (kernels.keys() & {*kernels[name].__wrapped__.__code__.co_names}) - called
print(*sorted(kernels.keys() - called), sep="\\n")
"""


def test_every_kernel_of_a_run_is_called(run_script):
    said, *never = run_script(NEVER_CALLED).splitlines()
    assert said.startswith("Compiled in ")
    assert set(never) == CALLED_ELSEWHERE
