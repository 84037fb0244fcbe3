"""One sandbox per worker: files and processes of its own, which end with it."""

from htcgrid_agent.runtimes.sandbox.command import Sandbox
from htcgrid_agent.runtimes.sandbox.host import Isolation, SandboxKind, describe, guard_agent, isolate
from htcgrid_agent.runtimes.sandbox.leftovers import remove_leftovers

__all__ = ["Isolation", "Sandbox", "SandboxKind", "describe", "guard_agent", "isolate", "remove_leftovers"]
