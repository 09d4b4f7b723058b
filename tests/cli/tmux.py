"""A real terminal, in which tests type commands and look at the screen."""

import subprocess
from pathlib import Path

from tests.cli.commands import environment
from tests.support.daemon import OUTLAST, Daemon
from tests.support.waiting import eventually


class Tmux:
    """A terminal of a width, in which commands are typed."""

    def __init__(self, folder: Path, daemon: Daemon, width: int) -> None:
        self._command = ["tmux", "-S", str(folder / "tmux")]
        self._typed = 0
        env = environment(daemon, PS1="$ ", TERM="", PAGER="sed -e s/^/paged/ -e 5q")
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            env.pop(name)
        size = ["-x", str(width), "-y", "30"]
        subprocess.run(
            [*self._command, "-f", "/dev/null", "new-session", "-d", *size, "bash --norc --noprofile"],
            check=True,
            env=env,
        )

    def screen(self, *, colours: bool = False) -> str:
        """Return what is on the screen, with the colours as escape sequences if that is asked for."""
        capture = [*self._command, "capture-pane", "-p", *(["-e"] if colours else [])]
        return subprocess.run(capture, check=True, capture_output=True, text=True).stdout

    async def shows(self, *words: str) -> str:
        """Type a command, wait until it has ended, and return the screen."""
        self._typed += 1
        line = f"clear; {OUTLAST[0]} -m outlast {' '.join(words)}; echo DO''NE {self._typed}"
        subprocess.run([*self._command, "send-keys", line, "Enter"], check=True)
        await eventually(lambda: f"\nDONE {self._typed}\n" in self.screen(), " ".join(words))
        return self.screen()

    def type(self, *keys: str) -> None:
        """Press keys, by the names that tmux has for them, or type a text."""
        subprocess.run([*self._command, "send-keys", *keys], check=True)

    def resize(self, cols: int, rows: int) -> None:
        """Change the size of the terminal."""
        subprocess.run([*self._command, "resize-window", "-x", str(cols), "-y", str(rows)], check=True)

    def running(self) -> int:
        """Return the pid of the command that the shell in the terminal runs."""
        ask = [*self._command, "display-message", "-p", "#{pane_pid}"]
        shell = int(subprocess.run(ask, check=True, capture_output=True, text=True).stdout)
        (pid,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(pid)

    async def comes(self, text: str) -> None:
        """Wait until a text is on the screen."""
        await eventually(lambda: text in self.screen(), text)

    def end(self) -> None:
        """End the terminal."""
        subprocess.run([*self._command, "kill-server"], check=True)
