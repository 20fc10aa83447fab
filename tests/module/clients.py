"""clients.py URI CERTIFICATE - Python's websockets against an echo: prints "ok", or fails

Text and binary of several lengths, fragments, pings, close codes both ways.  The echo answers the text
"close CODE REASON" by closing.  An empty CERTIFICATE: no TLS.
"""
import asyncio
import ssl
import sys

import websockets


async def echoes(ws, message):
    await asyncio.wait_for(ws.send(message), 10)
    if not isinstance(message, (str, bytes)):
        message = type(message[0])().join(message)
    got = await asyncio.wait_for(ws.recv(), 10)
    assert got == message, f"{len(message)} sent, {len(got)} came back"


async def main(uri, certificate):
    options = {}
    if certificate:
        options["ssl"] = ssl.create_default_context(cafile=certificate)
        options["server_hostname"] = "localhost"
    options["max_size"] = None
    async with websockets.connect(uri, **options) as ws:
        for size in (0, 1, 125, 126, 65535, 65536, 1000000):
            await echoes(ws, "a" * size)
            await echoes(ws, bytes([254]) * size)
        await echoes(ws, "κόσμε 👋")
        await echoes(ws, ["frag", "", "ment", "κόσμε"])
        await echoes(ws, [b"\xff", b"\x00" * 1000])
        for _ in range(3):
            await asyncio.wait_for(await ws.ping(), 10)
        await ws.close(4321, "by the client")
        assert (ws.close_code, ws.close_reason) == (4321, ""), (ws.close_code, ws.close_reason)
    async with websockets.connect(uri, **options) as ws:
        await ws.send("close 4001 by the server")
        try:
            await asyncio.wait_for(ws.recv(), 10)
        except websockets.exceptions.ConnectionClosed:
            pass
        assert (ws.close_code, ws.close_reason) == (4001, "by the server"), (ws.close_code, ws.close_reason)
    print("ok")


asyncio.run(main(*sys.argv[1:]))
