"""The kernels in which lessons run, and how they end."""

from __future__ import annotations

import asyncio

from jupyter_client.manager import AsyncKernelManager


class PatientKernelManager(AsyncKernelManager):
    """Asks a kernel to end, and interrupts it only if it is still there after a second.

    jupyter_client interrupts every kernel first and asks afterwards. One that has answered its last request, but has not
    quite finished with it, then writes "KeyboardInterrupt caught in kernel." to the terminal, though nobody stopped anything.
    """

    async def _async_interrupt_kernel(self) -> None:
        if self.shutting_down:
            await self._async_request_shutdown()
            try:
                return await asyncio.wait_for(self._async_wait(), timeout=1)
            except TimeoutError:
                pass  # it is busy: only an interrupt reaches it, and lets it clear up
        await super()._async_interrupt_kernel()
