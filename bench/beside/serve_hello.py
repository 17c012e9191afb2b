"""The limit: bare uvicorn, which reads the body and answers "hello".

python serve_hello.py PORT
"""

import sys

import uvicorn


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    """Answers when all is read."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=75,
    )  # fmt: skip
