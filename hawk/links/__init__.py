"""Links: one network connection each. Native to anyio, so to trio and to asyncio."""
