"""What the demo says, and the claims it checks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape


@dataclass(slots=True)
class Narrator:
    """Prints chapters, facts and claims; remembers whether every claim held."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    failed: list[str] = field(default_factory=list)
    held: int = 0

    def chapter(self, title: str) -> None:
        """A headline with the seconds since the start."""
        self.console.print(f"\n[bold cyan]{time.monotonic() - self.started:5.1f}s  {escape(title)}[/]")

    def say(self, text: str) -> None:
        """A fact that is shown, not checked."""
        self.console.print(f"        {escape(text)}", style="dim")

    def claim(self, text: str, holds: bool, found: str = "") -> None:
        """A claim and whether it holds; `found` is said where it doesn't."""
        if holds:
            self.held += 1
            self.console.print(f"   [bold green]✓[/]    {escape(text)}")
            return
        self.failed.append(text)
        self.console.print(f"   [bold red]✗[/]    {escape(text)}{escape(f' — but {found}' if found else '')}")

    def verdict(self) -> bool:
        """The last line; True if every claim held and there was one."""
        seconds = time.monotonic() - self.started
        good = not self.failed and self.held > 0
        if good:
            self.console.print(f"\n[bold green]All {self.held} claims held[/] in {seconds:.0f} s.")
        else:
            self.console.print(f"\n[bold red]{len(self.failed)} of {self.held + len(self.failed)} claims failed.[/]")
        return good
