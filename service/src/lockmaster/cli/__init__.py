"""The command line: thin commands over the client SDK. docs/commands.md and docs/exit-codes.md describe it."""
