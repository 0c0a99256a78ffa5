"""Sockets, timers and tasks: the thin edge between asyncio and the sessions."""
