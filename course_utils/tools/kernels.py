"""The kernels in which lessons run, and how they end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar
from weakref import WeakSet

from jupyter_client.manager import AsyncKernelManager


class PatientKernelManager(AsyncKernelManager):
    """Asks a kernel to end, and interrupts it only if it is still there after a second.

    jupyter_client interrupts every kernel first and asks afterwards. One that has answered its last request, but has not
    quite finished with it, then writes "KeyboardInterrupt caught in kernel." to the terminal, though nobody stopped anything.
    """

    started: ClassVar[WeakSet[PatientKernelManager]] = WeakSet()

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        self.started.add(self)
        await super()._async_launch_kernel(kernel_cmd, **options)

    async def _async_interrupt_kernel(self) -> None:
        if self.shutting_down:
            await self._async_request_shutdown()
            try:
                return await asyncio.wait_for(self._async_wait(), timeout=1)
            except TimeoutError:
                pass  # it is busy: only an interrupt reaches it, and lets it clear up
        await super()._async_interrupt_kernel()


def end_kernels() -> None:
    """End every kernel of this process that still runs, at once.

    After Ctrl-C the event loop that would end them may have stopped itself: on Windows it always has, for nbclient cannot
    catch the signal there. And a kernel is in a group of its own, which Ctrl-C does not reach.
    """
    for manager in list(PatientKernelManager.started):
        process = getattr(manager.provisioner, "process", None)
        if process is not None and process.poll() is None:
            with suppress(OSError):  # it has ended by now
                process.kill()
            process.wait()
