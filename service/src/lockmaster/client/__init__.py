"""The client SDK. Users import its names from `lockmaster`."""
