"""A program on a terminal of its own, which ends with the test whatever the load of the host."""

import pexpect


class Terminal(pexpect.spawn):
    def close(self, force=True):
        """As pexpect's, which sends SIGKILL at last but gives that a tenth of a second to work."""
        try:
            super().close(force)
        except pexpect.ExceptionPexpect:
            self.wait()
            super().close(force)
